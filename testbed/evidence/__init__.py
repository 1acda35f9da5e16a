"""The evidence folder: everything that is needed to argue with a verdict. One model per file, in one place.

verdicts.json                      what `-o json` of `verify` or `matrix` prints
verdicts.old.json                  the verdicts before, where a later verification was interrupted
handoff.json                       what `-o json` of `measure` prints
versions.json                      the engine, the machine, the programs, and what carries packets, per lab
topology.yaml                      the topology the claims stand in, includes and changes written out
topologies/NAME.yaml               other topologies that labs came from; of a matrix, those of all scenarios
roles/NAME.yaml                    the manifests of the roles that the topologies have
rendered/LAB/NODE/PATH             every file of every node of every lab; keys only if asked for
claims/ID/RUN/                     a run: main or control; main-2 is the second of several
claims/ID/RUN/run.json             when it took place, in which lab, and what the machine was like
claims/ID/RUN/events.jsonl         every event of every node during the run, in the order of arrival
claims/ID/RUN/steps.jsonl          what was done when, and what came of it
claims/ID/RUN/observations.jsonl   every look at the lab that decided something
claims/ID/RUN/captures.json        which captures ran to their end, and what they lost
claims/ID/RUN/captures/NODE-NETWORK.pcap
claims/ID/RUN/wireshark/           keys of IKE and ESP as Wireshark reads them; only if asked for
"""
