"""Ray: the connection to a cluster, and what a process of it has to be like. Nothing else needs it."""
