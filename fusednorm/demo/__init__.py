"""`fusednorm demo`: a small residual network trained with every kind of norm, timed and compared."""
