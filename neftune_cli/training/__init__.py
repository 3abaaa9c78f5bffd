"""Run, measure, checkpoint and calibrate one trial with TRL's SFTTrainer."""
