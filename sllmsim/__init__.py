"""The simulated cluster: carries a controller's commands out in SimPy time, against a truth that
the controller cannot see."""
