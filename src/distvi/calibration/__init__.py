"""``distvi calibrate``: what this machine's processes cost, as a cluster for the simulated engine.

`observations` reads times off the spans of real runs, `costs` fits a cluster to them, and `probes`
makes the runs.
"""

from distvi.calibration.costs import fit
from distvi.calibration.observations import Arrangement, Interplay, Observation
from distvi.calibration.probes import (
    Calibration,
    Probe,
    arranged_engine,
    calibrate,
    check_new_file,
    conclude,
    prepare_probes,
    probing,
    size_of,
    write,
)

__all__ = [
    "Arrangement",
    "Calibration",
    "Interplay",
    "Observation",
    "Probe",
    "arranged_engine",
    "calibrate",
    "check_new_file",
    "conclude",
    "fit",
    "prepare_probes",
    "probing",
    "size_of",
    "write",
]
