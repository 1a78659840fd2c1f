-- Views with the names and columns that reports of the field ask by (domain model, section 2). CI_ID is software_update.id,
-- ResourceID is client.id, AssignmentID the uid of a deployment; states are the published numbers, instants microseconds.
-- A view that expands segments is meant for one update or one client at a time; totals are in count_total.

CREATE VIEW v_UpdateInfo AS
SELECT u.id AS CI_ID, l.name || ':' || u.source || '@' || u.version AS CI_UniqueID, l.site AS SiteName, u.title AS Title,
    u.classification AS UpdateClassification, u.product AS Product, u.severity AS Severity, u.posted AS DatePosted,
    CASE WHEN u.superseded_by IS NULL THEN 0 ELSE 1 END AS IsSuperseded, u.expired AS IsExpired
FROM software_update u JOIN line l ON l.id = u.line;

-- Client and update, as the states of segments and of single slots.
CREATE VIEW v_slot_state AS
SELECT s.update_id, g.client, CAST(get_byte(g.states, CAST(s.slot - g.segment * 256 AS INTEGER)) AS BIGINT) AS state
FROM seg_state g JOIN slot s ON g.segment = s.slot / 256 AND s.slot BETWEEN g.segment * 256 AND g.segment * 256 + 255 AND s.update_id IS NOT NULL
    AND s.slot - g.segment * 256 < length(g.states)
UNION ALL
SELECT s.update_id, p.client, p.state
FROM sparse_state p JOIN slot s ON s.slot = p.slot AND s.update_id IS NOT NULL;

-- What is required or installed.
CREATE VIEW v_UpdateComplianceStatus AS
SELECT v.update_id AS CI_ID, v.client AS ResourceID, v.state % 4 AS Status, v.state / 4 AS LastEnforcementMessageID,
    COALESCE(d.since, CAST(CAST(r.body AS json) -> CAST(s.slot AS text) ->> 0 AS BIGINT)) AS LastStatusChangeTime, d.error AS LastError
FROM v_slot_state v JOIN slot s ON s.update_id = v.update_id JOIN software_update u ON u.id = v.update_id
LEFT JOIN update_detail d ON d.slot = s.slot AND d.client = v.client
LEFT JOIN client_required r ON r.client = v.client AND r.line = u.line
WHERE v.state % 4 >= 2;

-- Client and deployment.
CREATE VIEW v_UpdateAssignmentStatus AS
SELECT d.uid AS AssignmentID, d.client AS ResourceID, CASE WHEN d.compliance = 1 THEN 1 ELSE 0 END AS IsCompliant,
    d.compliance AS LastComplianceMessageID, d.enforcement AS LastEnforcementMessageID,
    d.evaluation AS LastEvaluationMessageID, d.changed_at AS LastMessageTime, d.error AS LastError
FROM deployment_client d;

-- Client and line.
CREATE VIEW v_UpdateScanStatus AS
SELECT w.client AS ResourceID, l.name AS UpdateSourceName, w.version AS LastScanPackageVersion, w.scanned_at AS ScanTime,
    n.scan AS LastScanState, n.scan_error AS LastError
FROM client_line w JOIN line l ON l.id = w.line LEFT JOIN client_session n ON n.client = w.client;
