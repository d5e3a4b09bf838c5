"""Scale the workers of a server, and its processes, by the jobs that wait.

`options` says what to aim at, `look` reads how many jobs wait, `decide` turns both into a number of workers, `scaling`
carries it out, and `simulation` shows it under a load. Each process scales its own workers and reports its load
(`process_load`); `process_scaling`, beside their supervisor, decides on the number of processes.
"""

from jobq_server.autoscaling.decide import Cause
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.autoscaling.scaling import ScalingStats
from jobq_server.autoscaling.simulation import Point, simulate

__all__ = ["Autoscaler", "Cause", "Point", "ScalingStats", "simulate"]
