"""From a question to a design: pooling, simulation, power and recovery."""
