"""The tables of gpu and the rules of its rows."""
