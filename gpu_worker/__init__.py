"""The renderer: a job id in, a video in the store. It never speaks HTTP to clients and never imports the gateway."""
