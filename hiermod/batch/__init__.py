"""Many fits of simulated data: power curves and parameter recovery, in parallel and resumable."""
