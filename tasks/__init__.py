"""One module per stage: thin Prefect tasks around the library."""
