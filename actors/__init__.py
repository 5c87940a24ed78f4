"""Ray actors and Serve deployments: thin shells that own a resource and call `app`."""
