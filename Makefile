# Forwards to ./run for those who type make; everything is decided there.
.PHONY: demo serve test check shots lock
demo serve test check shots lock:
	./run $@
