"""Changes to live objects of a host, each undone without a trace."""
