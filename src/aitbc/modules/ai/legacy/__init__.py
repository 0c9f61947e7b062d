"""The legacy dialect of the ai module: jobs as the service and the coordinator before had them."""
