"""The paths of the governance service that this module replaces, and of the older coordinator."""
