"""Secret random numbers: keystream, discrete Gaussian and Skellam samplers."""
