"""Train the runs of a study in worker processes, on this machine or on a Dask cluster."""
