"""One self-contained page about a folder of sweeps. Needs the extra `report`."""
