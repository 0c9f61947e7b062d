"""The gathered way: the commands of a busy market, many in one transaction."""
