"""What is fuzzed.

A target takes bytes and raises AssertionError, or anything else, if something is wrong.  What else it needs
(where to cut, which route) it draws from the bytes themselves, so that one byte string is one whole example:
for hypothesis and for a fuzzer guided by coverage alike.
"""

from tests.fuzz import answers, bodies, names, streams
from tests.fuzz.target import Target

TARGETS = {
    "cutter": Target(check=streams.cutter, corpus=streams.RECORDS, tokens=streams.RECORD_TOKENS),
    "tap": Target(check=streams.tap, corpus=streams.RECORDS, tokens=streams.RECORD_TOKENS),
    "gate": Target(check=bodies.gate, corpus=bodies.BODIES, tokens=bodies.BODY_TOKENS),
    "object": Target(check=bodies.object_reader, corpus=bodies.BODIES, tokens=bodies.BODY_TOKENS),
    "form": Target(check=bodies.form, corpus=(bodies.FORM,), tokens=bodies.FORM_TOKENS),
    "lists": Target(check=bodies.lists, corpus=bodies.LISTS, tokens=bodies.LIST_TOKENS),
    "keys": Target(check=names.keys, corpus=names.KEYS, tokens=names.KEY_TOKENS),
    "target": Target(check=names.target, corpus=names.TARGETS, tokens=names.TARGET_TOKENS),
    "names": Target(check=names.names, corpus=names.NAMES, tokens=names.NAME_TOKENS),
    "hosts": Target(check=names.hosts, corpus=names.HOSTS, tokens=names.HOST_TOKENS),
    "config": Target(check=names.config, corpus=names.CONFIGS, tokens=names.CONFIG_TOKENS),
    "answer": Target(check=answers.answer, corpus=answers.ANSWERS, tokens=answers.ANSWER_TOKENS),
}
