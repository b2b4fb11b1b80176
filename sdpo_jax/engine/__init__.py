"""What programs are made of, whatever they train: lanes, streams of random numbers, checks."""
