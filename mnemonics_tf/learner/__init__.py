"""The learner: settings in, a network and a memory out. It knows no configuration files, no folders and no streams."""
