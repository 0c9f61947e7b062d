"""The paths of the plugin service before."""
