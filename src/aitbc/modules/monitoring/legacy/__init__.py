"""The legacy paths of monitoring: the dashboard of its service, and what the older coordinator showed of itself."""
