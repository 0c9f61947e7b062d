"""One file per noun; each is loaded when it is used."""
