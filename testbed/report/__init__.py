"""What people look at: drawings of topologies, and a page that shows what an experiment found and why."""
