"""One self-contained page of a folder of sweeps. Needs the extra `report`."""
