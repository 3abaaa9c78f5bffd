"""One trial, start to record, on TRL's SFTTrainer."""
