"""The rules that a plugin is published by, one a file; the server and `aitbc plugin validate` hold the same ones."""
