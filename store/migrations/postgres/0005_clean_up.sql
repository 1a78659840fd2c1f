-- Since when a verified index does not have the update any more; 0: it has, or nobody knows. What expired and is gone is
-- cleaned up some time later.
ALTER TABLE software_update ADD COLUMN gone_at BIGINT NOT NULL DEFAULT 0;
