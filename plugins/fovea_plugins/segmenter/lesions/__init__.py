"""Red and bright lesions: microaneurysms, haemorrhages, hard and soft exudates."""
