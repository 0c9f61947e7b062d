"""Plugins: what others extend this platform with: published, looked at, bought, installed, and taken away again."""
