"""The gateway: HTTP in, jobs out. It never renders and never imports the worker."""
