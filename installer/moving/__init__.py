"""The images of charts and objects, taken from the enclave: how a chart is brought to ask for them there."""
