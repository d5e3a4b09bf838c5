"""Submit, watch and control jobq jobs, with no worker code installed."""
