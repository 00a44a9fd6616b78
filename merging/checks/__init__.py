"""The parts of the check, one noun each: what is read of the models, and what follows from it."""
