"""Hooks: the places at which plugins are asked, and the plugins of this process, which are contained there."""
