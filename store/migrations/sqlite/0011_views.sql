-- Views with the names and columns that reports of the field ask by (docs/sql.md says what each row is). CI_ID is
-- software_update.id, for an update list the number of the list below zero; ResourceID is client.id, AssignmentID
-- deployment.id; CollectionID and PackageID are `<site>/<name>`; states are the published numbers. Times are texts, ISO 8601 in
-- UTC. Compliance counts active clients alone, as everywhere.

DROP VIEW v_UpdateScanStatus;
DROP VIEW v_UpdateAssignmentStatus;
DROP VIEW v_UpdateComplianceStatus;
DROP VIEW v_slot_state;
DROP VIEW v_UpdateInfo;

-- Names.
CREATE VIEW v_StateNames AS
SELECT 300 AS TopicType, 0 AS StateID, 'Compliance state unknown' AS StateName, 'Compliance state unknown' AS StateDescription
UNION ALL SELECT 300, 1, 'Compliant', 'Compliant'
UNION ALL SELECT 300, 2, 'Non-compliant', 'Non-compliant'
UNION ALL SELECT 300, 3, 'Conflict detected', 'Conflict detected'
UNION ALL SELECT 301, 0, 'Enforcement state unknown', 'Enforcement state unknown'
UNION ALL SELECT 301, 1, 'Installing update(s)', 'Installing update(s)'
UNION ALL SELECT 301, 2, 'Waiting for restart', 'Waiting for restart'
UNION ALL SELECT 301, 3, 'Waiting for another installation to complete', 'Waiting for another installation to complete'
UNION ALL SELECT 301, 4, 'Successfully installed update(s)', 'Successfully installed update(s)'
UNION ALL SELECT 301, 5, 'Pending system restart', 'Pending system restart'
UNION ALL SELECT 301, 6, 'Failed to install update(s)', 'Failed to install update(s)'
UNION ALL SELECT 301, 7, 'Downloading update(s)', 'Downloading update(s)'
UNION ALL SELECT 301, 8, 'Downloaded update(s)', 'Downloaded update(s)'
UNION ALL SELECT 301, 9, 'Failed to download update(s)', 'Failed to download update(s)'
UNION ALL SELECT 301, 10, 'Waiting for maintenance window before installing', 'Waiting for maintenance window before installing'
UNION ALL SELECT 302, 0, 'Evaluation state unknown', 'Evaluation state unknown'
UNION ALL SELECT 302, 1, 'Evaluation activated', 'Evaluation activated'
UNION ALL SELECT 302, 2, 'Evaluation succeeded', 'Evaluation succeeded'
UNION ALL SELECT 302, 3, 'Evaluation failed', 'Evaluation failed'
UNION ALL SELECT 402, 0, 'Enforcement state unknown', 'Enforcement state unknown'
UNION ALL SELECT 402, 1, 'Enforcement started', 'Enforcement started'
UNION ALL SELECT 402, 2, 'Enforcement waiting for content', 'Enforcement waiting for content'
UNION ALL SELECT 402, 3, 'Waiting for another installation to complete', 'Waiting for another installation to complete'
UNION ALL SELECT 402, 4, 'Waiting for maintenance window before installing', 'Waiting for maintenance window before installing'
UNION ALL SELECT 402, 5, 'Restart required before installing', 'Restart required before installing'
UNION ALL SELECT 402, 6, 'General failure', 'General failure'
UNION ALL SELECT 402, 7, 'Pending installation', 'Pending installation'
UNION ALL SELECT 402, 8, 'Installing update', 'Installing update'
UNION ALL SELECT 402, 9, 'Pending system restart', 'Pending system restart'
UNION ALL SELECT 402, 10, 'Successfully installed update', 'Successfully installed update'
UNION ALL SELECT 402, 11, 'Failed to install update', 'Failed to install update'
UNION ALL SELECT 402, 12, 'Downloading update', 'Downloading update'
UNION ALL SELECT 402, 13, 'Downloaded update', 'Downloaded update'
UNION ALL SELECT 402, 14, 'Failed to download update', 'Failed to download update'
UNION ALL SELECT 500, 0, 'Detection state unknown', 'Detection state unknown'
UNION ALL SELECT 500, 1, 'Update is not required', 'Update is not required'
UNION ALL SELECT 500, 2, 'Update is required', 'Update is required'
UNION ALL SELECT 500, 3, 'Update is installed', 'Update is installed'
UNION ALL SELECT 501, 0, 'Scan state unknown', 'Scan state unknown'
UNION ALL SELECT 501, 1, 'Scan is waiting for catalog location', 'Scan is waiting for catalog location'
UNION ALL SELECT 501, 2, 'Scan is running', 'Scan is running'
UNION ALL SELECT 501, 3, 'Scan completed', 'Scan completed'
UNION ALL SELECT 501, 4, 'Scan is pending retry', 'Scan is pending retry'
UNION ALL SELECT 501, 5, 'Scan failed', 'Scan failed'
UNION ALL SELECT 501, 6, 'Scan completed with errors', 'Scan completed with errors';

-- What can go wrong on a client: our symbol, the published code and the published status message next to it.
CREATE VIEW failure AS
SELECT 'SCAN-SOURCE' AS symbol, 2278557329 AS code, 11700 AS message
UNION ALL SELECT 'SCAN-HASH', 2149867522, 11701
UNION ALL SELECT 'SCAN-CATALOGUE', 2278557186, 11701
UNION ALL SELECT 'SCAN-TIMEOUT', 2278557185, 11701
UNION ALL SELECT 'SCAN-PARTIAL', 2278557333, 11701
UNION ALL SELECT 'SCAN-BROKEN', 2278557270, 11713
UNION ALL SELECT 'SCAN-BEFORE', 2278557264, 11701
UNION ALL SELECT 'SCAN-AFTER', 2278557265, 11753
UNION ALL SELECT 'PRE-DPKG', 2278557271, 11713
UNION ALL SELECT 'PRE-DPKG', 2278557268, 11708
UNION ALL SELECT 'PRE-DPKG', 2278557284, 11709
UNION ALL SELECT 'PRE-HELD', 2278557440, CAST(NULL AS INTEGER)
UNION ALL SELECT 'PRE-PINNED', 2278557440, CAST(NULL AS INTEGER)
UNION ALL SELECT 'PRE-DISK', 2278560257, 11704
UNION ALL SELECT 'PRE-INODES', 2278560257, 11704
UNION ALL SELECT 'PRE-RO', 2278557268, 11708
UNION ALL SELECT 'PRE-RO', 2278557267, 11706
UNION ALL SELECT 'DISK', 2278557267, 11706
UNION ALL SELECT 'DP-NONE', 2278557289, 11703
UNION ALL SELECT 'DP-NOT-OFFERED', 2278557191, 11703
UNION ALL SELECT 'NET-CAPTIVE', 2278557267, 11706
UNION ALL SELECT 'NET-DOWNLOAD', 2278557267, 11706
UNION ALL SELECT 'PKG-LEN', 2149867522, 11702
UNION ALL SELECT 'PKG-HASH', 2149867522, 11702
UNION ALL SELECT 'PKG-IDENTITY', 2149867522, 11702
UNION ALL SELECT 'PKG-FORMAT', 2149867522, 11708
UNION ALL SELECT 'PKG-TAR', 2149867522, 11708
UNION ALL SELECT 'PKG-LIMIT', 2149867522, 11708
UNION ALL SELECT 'DEP-UNSAT', 2278557191, 11703
UNION ALL SELECT 'DEP-FOREIGN', 2278557268, 11708
UNION ALL SELECT 'PLAN-UNAPPROVED', 2278557268, 11708
UNION ALL SELECT 'PLAN-INCOMPLETE', 2278557268, 11708
UNION ALL SELECT 'PLAN-REMOVE', 2278557268, 11708
UNION ALL SELECT 'PLAN-DANGEROUS', 2278557268, 11708
UNION ALL SELECT 'PLAN-DOWNGRADE', 2278557268, 11708
UNION ALL SELECT 'INSTALL-START', 2278557268, 11710
UNION ALL SELECT 'INSTALL-SCRIPT', 2278557268, 11708
UNION ALL SELECT 'INSTALL-SCRIPT', 2278557284, 11709
UNION ALL SELECT 'INSTALL-APT', 2278557268, 11708
UNION ALL SELECT 'INSTALL-STILL-REQUIRED', 2278557288, 11752
UNION ALL SELECT 'INSTALL-SERVICE', 2278557453, 11708
UNION ALL SELECT 'RUN-TIME', 2278557284, 11709
UNION ALL SELECT 'WINDOW-NEVER-FITS', 2278557287, 11717
UNION ALL SELECT 'CLOCK-UNTRUSTED', 2147954575, CAST(NULL AS INTEGER);

CREATE VIEW v_AdvertisementStatusInformation AS
SELECT 11700 AS MessageID, 'Scan tool not available' AS MessageName, 101 AS MessageState, 'Failed' AS MessageStateName
UNION ALL SELECT 11701, 'Scan tool failed', 101, 'Failed'
UNION ALL SELECT 11702, 'Content hash differs from policy', 101, 'Failed'
UNION ALL SELECT 11703, 'Content not located', 101, 'Failed'
UNION ALL SELECT 11704, 'Content larger than the free cache', 101, 'Failed'
UNION ALL SELECT 11705, 'Content larger than the whole cache', 101, 'Failed'
UNION ALL SELECT 11706, 'Download failed', 101, 'Failed'
UNION ALL SELECT 11707, 'Invalid command line', 101, 'Failed'
UNION ALL SELECT 11708, 'Update failed', 101, 'Failed'
UNION ALL SELECT 11709, 'Update not finished in the time allotted', 101, 'Failed'
UNION ALL SELECT 11710, 'Process could not be created', 101, 'Failed'
UNION ALL SELECT 11711, 'Path of the installer not obtained', 101, 'Failed'
UNION ALL SELECT 11712, 'Not monitored after the service restarted', 101, 'Failed'
UNION ALL SELECT 11713, 'Internal error', 101, 'Failed'
UNION ALL SELECT 11714, 'Content of the bundle failed', 101, 'Failed'
UNION ALL SELECT 11715, 'Installation of the bundle failed', 101, 'Failed'
UNION ALL SELECT 11716, 'Applicability of the bundle failed', 101, 'Failed'
UNION ALL SELECT 11717, 'No current or future maintenance window fits the maximum run time', 101, 'Failed'
UNION ALL SELECT 11750, 'Enforcement job failed', 101, 'Failed'
UNION ALL SELECT 11751, 'Some updates failed', 101, 'Failed'
UNION ALL SELECT 11752, 'Still non-compliant after enforcement', 101, 'Failed'
UNION ALL SELECT 11753, 'Check after the restart failed', 101, 'Failed'
UNION ALL SELECT 11754, 'Enforcement could not be started', 101, 'Failed'
UNION ALL SELECT 11755, 'Evaluation could not be started', 101, 'Failed'
UNION ALL SELECT 11756, 'Evaluation job failed', 101, 'Failed';

-- The catalogue.
CREATE VIEW v_UpdateInfo AS
SELECT u.id AS CI_ID, l.name || ':' || u.source || '@' || u.version AS CI_UniqueID, 8 AS CIType_ID, l.name || ':' || u.source || '@' || u.version AS ModelName,
    u.title AS Title, u.title AS Description, u.source AS ArticleID, u.version AS ArticleVersion, '' AS BulletinID,
    u.severity AS Severity, strftime('%Y-%m-%dT%H:%M:%fZ', u.posted / 1000000.0, 'unixepoch') AS DatePosted, strftime('%Y-%m-%dT%H:%M:%fZ', u.posted / 1000000.0, 'unixepoch') AS DateRevised,
    CASE WHEN EXISTS (SELECT 1 FROM deployment_update d WHERE d.update_id = u.id) THEN 1 ELSE 0 END AS IsDeployed,
    u.expired AS IsExpired, CASE WHEN u.superseded_by IS NULL THEN 0 ELSE 1 END AS IsSuperseded, 1 - u.expired AS IsEnabled,
    0 AS IsUserDefined, 1 AS IsBundle, CASE WHEN u.gone_at > 0 THEN 1 ELSE 0 END AS IsTombstoned,
    CASE WHEN u.superseded_by IS NULL THEN 1 ELSE 0 END AS IsLatest, u.classification AS UpdateClassification,
    u.product AS Product, l.name AS UpdateSourceName, l.site AS SiteName
FROM software_update u JOIN line l ON l.id = u.line;

CREATE VIEW v_UpdateCIs AS
SELECT u.id AS CI_ID, l.name || ':' || u.source || '@' || u.version AS CI_UniqueID, 8 AS CIType_ID, u.expired AS IsHidden, u.line AS UpdateSource_ID,
    u.since_version AS MinSourceVersion, l.site AS SiteName
FROM software_update u JOIN line l ON l.id = u.line;

CREATE VIEW v_SoftwareUpdateSource AS
SELECT l.id AS UpdateSource_ID, l.site || '/' || l.name AS UpdateSource_UniqueID, l.name AS UpdateSourceName,
    l.name AS UpdateSourceDescription, l.catalogue_version AS UpdateSourceVersion, l.site AS SourceSite, 0 AS IsExpired,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.synced_at / 1000000.0, 'unixepoch') AS LastSyncTime
FROM line l;

CREATE VIEW v_AuthListInfo AS
SELECT -o.id AS CI_ID, o.uid AS CI_UniqueID, 9 AS CIType_ID, o.name AS Title, COALESCE(o.description, '') AS Description,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.created / 1000000.0, 'unixepoch') AS DateCreated, strftime('%Y-%m-%dT%H:%M:%fZ', o.modified / 1000000.0, 'unixepoch') AS DateLastModified, o.site AS SourceSite,
    (SELECT COUNT(*) FROM update_list_member m WHERE m.list = o.id) AS NumberOfUpdates
FROM update_list o;

CREATE VIEW v_BundledConfigurationItems AS
SELECT -m.list AS CI_ID, m.update_id AS BundledCI_ID FROM update_list_member m;

CREATE VIEW v_CIRelation AS
SELECT -m.list AS FromCIID, m.update_id AS ToCIID, 1 AS RelationType FROM update_list_member m
UNION ALL
SELECT n.id, u.id, 6
FROM software_update u JOIN line l ON l.id = u.line JOIN software_update n ON n.line = u.line AND n.source = u.source
WHERE u.superseded_by = l.name || ':' || n.source || '@' || n.version;

CREATE VIEW v_CICategoryInfo AS
SELECT u.id AS CI_ID, 'Product:' || u.product AS CategoryInstanceID, 'Product:' || u.product AS CategoryInstance_UniqueID,
    u.product AS CategoryInstanceName, 'Product' AS CategoryTypeName
FROM software_update u
UNION ALL
SELECT u.id, 'UpdateClassification:' || u.classification, 'UpdateClassification:' || u.classification, u.classification,
    'UpdateClassification'
FROM software_update u;

CREATE VIEW v_CICategoryInfo_All AS
SELECT * FROM v_CICategoryInfo;

CREATE VIEW v_CICategories AS
SELECT CI_ID, CategoryInstanceID, CategoryInstance_UniqueID, CategoryTypeName FROM v_CICategoryInfo;

CREATE VIEW v_CICategories_All AS
SELECT * FROM v_CICategories;

CREATE VIEW v_CategoryInfo AS
SELECT DISTINCT CategoryInstanceID, CategoryInstanceName, CategoryTypeName, CategoryInstance_UniqueID FROM v_CICategoryInfo;

-- Clients and collections.
CREATE VIEW v_R_System AS
SELECT c.id AS ResourceID, c.name AS Name0, c.name AS Netbios_Name0, c.uuid AS SMS_Unique_Identifier0,
    json_extract(c.facts, '$."agent.version"') AS Client_Version0,
    COALESCE(json_extract(c.facts, '$."os.id"'), '') || ' ' || COALESCE(json_extract(c.facts, '$."os.version"'), '') AS Operating_System_Name_and0,
    json_extract(c.facts, '$."architecture"') AS Architecture0, json_extract(c.facts, '$."kernel"') AS Kernel0, json_extract(c.facts, '$."role"') AS Role0,
    1 AS Client0, CASE WHEN c.state = 1 THEN 1 ELSE 0 END AS Active0, CASE WHEN c.state = 2 THEN 1 ELSE 0 END AS Obsolete0,
    CASE WHEN c.state = 2 THEN 1 ELSE 0 END AS Decommissioned0, c.site AS SiteName
FROM client c;

CREATE VIEW v_RA_System_SMSAssignedSites AS
SELECT c.id AS ResourceID, c.site AS SMS_Assigned_Sites0 FROM client c;

CREATE VIEW v_CH_ClientSummary AS
SELECT c.id AS ResourceID, c.name AS MachineName, strftime('%Y-%m-%dT%H:%M:%fZ', c.last_contact / 1000000.0, 'unixepoch') AS LastActiveTime,
    strftime('%Y-%m-%dT%H:%M:%fZ', q.reported_at / 1000000.0, 'unixepoch') AS LastStatusMessage, strftime('%Y-%m-%dT%H:%M:%fZ', p.issued_at / 1000000.0, 'unixepoch') AS LastPolicyIssued,
    CASE WHEN c.state = 1 AND c.last_contact >= (CAST(strftime('%s', 'now') AS INTEGER) - 604800) * 1000000 THEN 1 ELSE 0 END AS ClientActiveStatus,
    CASE c.state WHEN 0 THEN 'Pending' WHEN 1 THEN 'Active' WHEN 2 THEN 'Revoked' ELSE 'Quarantined' END AS ClientStateDescription,
    c.site AS SiteName
FROM client c LEFT JOIN client_sequence q ON q.client = c.id LEFT JOIN policy p ON p.client = c.id;

CREATE VIEW v_Collection AS
SELECT o.site || '/' || o.name AS CollectionID, o.name AS Name, COALESCE(o.description, '') AS Comment, 2 AS CollectionType,
    (SELECT COUNT(*) FROM collection_member m WHERE m.collection = o.id) AS MemberCount, o.parent AS ParentName, o.site AS SiteName,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.created / 1000000.0, 'unixepoch') AS DateCreated
FROM collection o;

CREATE VIEW v_FullCollectionMembership AS
SELECT o.site || '/' || o.name AS CollectionID, m.client AS ResourceID, c.name AS Name, 1 AS IsClient,
    CASE WHEN c.state = 2 THEN 1 ELSE 0 END AS IsObsolete, CASE WHEN c.state = 1 THEN 1 ELSE 0 END AS IsActive, c.site AS SiteCode, c.uuid AS SMSID
FROM collection o JOIN collection_member m ON m.collection = o.id JOIN client c ON c.id = m.client;

CREATE VIEW v_ClientCollectionMembers AS
SELECT * FROM v_FullCollectionMembership;

-- Maintenance windows.
CREATE VIEW v_ServiceWindow AS
SELECT o.site || '/' || o.name AS CollectionID, w.uid AS ServiceWindowID, w.name AS Name, COALESCE(w.description, '') AS Description,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.start / 1000000.0, 'unixepoch') AS StartTime, w.duration AS Duration, w.enabled AS IsEnabled, w.kind AS ServiceWindowType,
    w.recurrence AS RecurrenceType, CASE WHEN w.zone = 'UTC' THEN 1 ELSE 0 END AS IsGMT, w.zone AS TimeZone, w.deny AS IsDeny,
    w.schedule AS Schedules, strftime('%Y-%m-%dT%H:%M:%fZ', w.effective_from / 1000000.0, 'unixepoch') AS EffectiveFrom, strftime('%Y-%m-%dT%H:%M:%fZ', w.effective_until / 1000000.0, 'unixepoch') AS EffectiveUntil, w.site AS SiteName
FROM service_window w LEFT JOIN collection o ON o.id = w.collection;

-- Client and update: what is required or installed.
CREATE VIEW v_UpdateComplianceStatus AS
SELECT s.update_id AS CI_ID, g.client AS ResourceID, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1) % 4 AS Status,
    strftime('%Y-%m-%dT%H:%M:%fZ', (SELECT q.reported_at FROM client_sequence q WHERE q.client = g.client) / 1000000.0, 'unixepoch') AS LastStatusCheckTime,
    strftime('%Y-%m-%dT%H:%M:%fZ', COALESCE((SELECT d.since FROM update_detail d WHERE d.slot = s.slot AND d.client = g.client),
        (SELECT json_extract(r.body, '$."' || s.slot || '"[0]') FROM client_required r WHERE r.client = g.client AND r.line = (SELECT e.line FROM segment e WHERE e.id = s.slot / 256))) / 1000000.0, 'unixepoch') AS LastStatusChangeTime,
    (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1) / 4 AS LastEnforcementMessageID,
    (json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = g.client), '$."code"') - CASE WHEN json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = g.client), '$."code"') >= 2147483648 THEN 4294967296 ELSE 0 END) AS LastErrorCode, (SELECT f.message FROM failure f WHERE f.symbol = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = g.client), '$."symbol"') AND f.code = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = g.client), '$."code"')) AS LastEnforcementStatusMsgID
FROM slot s JOIN seg_state g ON g.segment = s.slot / 256 AND s.slot BETWEEN g.segment * 256 AND g.segment * 256 + 255
    JOIN client c ON c.id = g.client AND c.state = 1
WHERE s.update_id IS NOT NULL AND (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1) % 4 >= 2
UNION ALL
SELECT s.update_id AS CI_ID, p.client AS ResourceID, p.state % 4 AS Status,
    strftime('%Y-%m-%dT%H:%M:%fZ', (SELECT q.reported_at FROM client_sequence q WHERE q.client = p.client) / 1000000.0, 'unixepoch') AS LastStatusCheckTime,
    strftime('%Y-%m-%dT%H:%M:%fZ', COALESCE((SELECT d.since FROM update_detail d WHERE d.slot = s.slot AND d.client = p.client),
        (SELECT json_extract(r.body, '$."' || s.slot || '"[0]') FROM client_required r WHERE r.client = p.client AND r.line = (SELECT e.line FROM segment e WHERE e.id = s.slot / 256))) / 1000000.0, 'unixepoch') AS LastStatusChangeTime,
    p.state / 4 AS LastEnforcementMessageID,
    (json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = p.client), '$."code"') - CASE WHEN json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = p.client), '$."code"') >= 2147483648 THEN 4294967296 ELSE 0 END) AS LastErrorCode, (SELECT f.message FROM failure f WHERE f.symbol = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = p.client), '$."symbol"') AND f.code = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = s.slot AND d.client = p.client), '$."code"')) AS LastEnforcementStatusMsgID
FROM slot s JOIN sparse_state p ON p.slot = s.slot JOIN client c ON c.id = p.client AND c.state = 1
WHERE s.update_id IS NOT NULL AND p.state % 4 >= 2;

-- Every active client and every update of its site: the state as it is kept, and whether the client's last scan knew the update.
-- *Not required* is written nowhere: it is what a scan of this update did not say.
CREATE VIEW every_state AS
SELECT c.id AS client, u.id AS update_id, u.line AS line, s.slot AS slot, c.site AS site,
    COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) AS state,
    CASE WHEN w.client IS NOT NULL THEN 1 ELSE 0 END AS scanned
FROM client c JOIN line l ON l.site = c.site JOIN software_update u ON u.line = l.id LEFT JOIN slot s ON s.update_id = u.id
LEFT JOIN seg_state g ON g.segment = s.slot / 256 AND g.client = c.id
LEFT JOIN sparse_state p ON p.slot = s.slot AND p.client = c.id
LEFT JOIN client_line w ON w.client = c.id AND w.line = u.line AND w.version >= u.since_version
WHERE c.state = 1;

CREATE VIEW v_Update_ComplianceStatusAll AS
SELECT e.update_id AS CI_ID, e.client AS ResourceID,
    CASE WHEN e.state % 4 >= 2 THEN e.state % 4 ELSE e.scanned END AS Status,
    strftime('%Y-%m-%dT%H:%M:%fZ', (SELECT q.reported_at FROM client_sequence q WHERE q.client = e.client) / 1000000.0, 'unixepoch') AS LastStatusCheckTime,
    strftime('%Y-%m-%dT%H:%M:%fZ', COALESCE((SELECT d.since FROM update_detail d WHERE d.slot = e.slot AND d.client = e.client),
        (SELECT json_extract(r.body, '$."' || e.slot || '"[0]') FROM client_required r WHERE r.client = e.client AND r.line = e.line)) / 1000000.0, 'unixepoch') AS LastStatusChangeTime,
    e.state / 4 AS LastEnforcementMessageID,
    (json_extract((SELECT d.error FROM update_detail d WHERE d.slot = e.slot AND d.client = e.client), '$."code"') - CASE WHEN json_extract((SELECT d.error FROM update_detail d WHERE d.slot = e.slot AND d.client = e.client), '$."code"') >= 2147483648 THEN 4294967296 ELSE 0 END) AS LastErrorCode, (SELECT f.message FROM failure f WHERE f.symbol = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = e.slot AND d.client = e.client), '$."symbol"') AND f.code = json_extract((SELECT d.error FROM update_detail d WHERE d.slot = e.slot AND d.client = e.client), '$."code"')) AS LastEnforcementStatusMsgID
FROM every_state e;

CREATE VIEW v_Update_ComplianceStatusReported AS
SELECT * FROM v_Update_ComplianceStatusAll WHERE Status >= 1;

CREATE VIEW v_UpdateState_Combined AS
SELECT CI_ID, ResourceID, CASE WHEN Status = 2 THEN 402 ELSE 500 END AS StateType,
    CASE WHEN Status = 2 THEN LastEnforcementMessageID ELSE Status END AS StateID, LastStatusChangeTime AS StateTime,
    LastErrorCode, LastEnforcementStatusMsgID
FROM v_Update_ComplianceStatusAll;

CREATE VIEW v_ScannedUpdates AS
SELECT u.id AS CI_ID, w.client AS ResourceID, strftime('%Y-%m-%dT%H:%M:%fZ', w.scanned_at / 1000000.0, 'unixepoch') AS ScanTime
FROM software_update u JOIN client_line w ON w.line = u.line AND w.version >= u.since_version;

-- Client and line. A client that never scanned has one row without a line.
CREATE VIEW v_UpdateScanStatus AS
SELECT c.id AS ResourceID, w.line AS UpdateSource_ID, l.name AS UpdateSourceName, COALESCE(n.scan, 0) AS LastScanState,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.scanned_at / 1000000.0, 'unixepoch') AS LastScanTime, strftime('%Y-%m-%dT%H:%M:%fZ', w.scanned_at / 1000000.0, 'unixepoch') AS ScanTime, (json_extract(n.scan_error, '$."code"') - CASE WHEN json_extract(n.scan_error, '$."code"') >= 2147483648 THEN 4294967296 ELSE 0 END) AS LastErrorCode,
    (SELECT f.message FROM failure f WHERE f.symbol = json_extract(n.scan_error, '$."symbol"') AND f.code = json_extract(n.scan_error, '$."code"')) AS LastStatusMessageID, w.version AS LastScanPackageVersion,
    json_extract(c.facts, '$."agent.version"') AS LastWUAVersion, c.site AS SiteName
FROM client c LEFT JOIN client_line w ON w.client = c.id LEFT JOIN line l ON l.id = w.line
LEFT JOIN client_session n ON n.client = c.id
WHERE c.state = 1;

-- What count_total does not contain yet, decoded: numbers with a sign, 7 bits a byte, in threes. The store adds it up every three
-- seconds; in between it is little.
CREATE VIEW count_change AS
WITH RECURSIVE byte (id, at, b) AS (
    SELECT d.id, 0, instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff', substr(d.body, 1, 1)) - 1
    FROM count_delta d WHERE length(d.body) > 0
    UNION ALL
    SELECT d.id, y.at + 1, instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff', substr(d.body, y.at + 2, 1)) - 1
    FROM byte y JOIN count_delta d ON d.id = y.id WHERE y.at + 1 < length(d.body)
), parted AS (
    SELECT id, at, b, SUM(CASE WHEN b < 128 THEN 1 ELSE 0 END) OVER (PARTITION BY id ORDER BY at) - CASE WHEN b < 128 THEN 1 ELSE 0 END AS number
    FROM byte
), placed AS (
    SELECT id, number, b, ROW_NUMBER() OVER (PARTITION BY id, number ORDER BY at) - 1 AS place FROM parted
), plain AS (
    SELECT id, CAST(number AS INTEGER) AS number, CAST(SUM((b & 127) << CAST(7 * place AS INTEGER)) AS INTEGER) AS value FROM placed GROUP BY id, number
), signed AS (
    SELECT id, number / 3 AS entry, number % 3 AS field, CASE WHEN value % 2 = 0 THEN value / 2 ELSE -(value + 1) / 2 END AS value
    FROM plain
)
SELECT MAX(CASE WHEN field = 0 THEN value END) AS scope, MAX(CASE WHEN field = 1 THEN value END) AS state,
    MAX(CASE WHEN field = 2 THEN value END) AS n
FROM signed GROUP BY id, entry;

-- The kept counts of an update, as the store itself reads them.
CREATE VIEW update_count AS
WITH changed AS MATERIALIZED (SELECT scope, state, n FROM count_change),
slots AS MATERIALIZED (
    SELECT scope, CAST(COALESCE(SUM(CASE WHEN state = 2 THEN n ELSE 0 END), 0) AS INTEGER) AS s2, CAST(COALESCE(SUM(CASE WHEN state = 3 THEN n ELSE 0 END), 0) AS INTEGER) AS s3,
        CAST(COALESCE(SUM(CASE WHEN state = 4 THEN n ELSE 0 END), 0) AS INTEGER) AS s4
    FROM changed WHERE scope > 0 GROUP BY scope
), marks AS MATERIALIZED (SELECT -scope AS line, state, n FROM changed WHERE scope < 0),
active AS MATERIALIZED (SELECT site, COUNT(*) AS n FROM client WHERE state = 1 GROUP BY site)
SELECT u.id AS update_id, l.site AS site, COALESCE(a.n, 0) AS total,
    COALESCE(k2.n, 0) + COALESCE(d.s2, 0) AS required, COALESCE(k3.n, 0) + COALESCE(d.s3, 0) AS installed, COALESCE(k4.n, 0) + COALESCE(d.s4, 0) AS early,
    CAST((SELECT COALESCE(SUM(k.n), 0) FROM count_total k WHERE k.scope = -u.line AND k.state >= u.since_version)
        + (SELECT COALESCE(SUM(k.n), 0) FROM marks k WHERE k.line = u.line AND k.state >= u.since_version) AS INTEGER) AS scanned
FROM software_update u JOIN line l ON l.id = u.line LEFT JOIN active a ON a.site = l.site
LEFT JOIN slot s ON s.update_id = u.id LEFT JOIN slots d ON d.scope = s.slot
LEFT JOIN count_total k2 ON k2.scope = s.slot AND k2.state = 2 LEFT JOIN count_total k3 ON k3.scope = s.slot AND k3.state = 3
LEFT JOIN count_total k4 ON k4.scope = s.slot AND k4.state = 4;

CREATE VIEW v_Update_ComplianceSummary AS
SELECT update_id AS CI_ID, total AS NumTotal, total - required - installed - MIN(MAX(scanned - (required + installed - early), 0), MAX(total - required - installed, 0)) AS NumUnknown,
    MIN(MAX(scanned - (required + installed - early), 0), MAX(total - required - installed, 0)) AS NumNotApplicable, required AS NumMissing, installed AS NumPresent, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS LastSummaryTime, site AS SiteName
FROM update_count;

CREATE VIEW v_Update_ComplianceSummary_Live AS
SELECT * FROM v_Update_ComplianceSummary;

-- Reads every state of every member: name an update, and better a collection too.
CREATE VIEW v_UpdateSummaryPerCollection AS
SELECT u.id AS CI_ID, o.site || '/' || o.name AS CollectionID, o.name AS CollectionName,
    COUNT(m.client) AS NumTotal,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 3 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumPresent,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 2 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumMissing,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 < 2 AND w.client IS NOT NULL THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumNotApplicable,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 < 2 AND w.client IS NULL THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumUnknown,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 = 10 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumInstalled,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 <> 3 AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 IN (6, 11, 14) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumFailed,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 <> 3 AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 IN (1, 2, 3, 4, 5, 7, 8, 9, 12, 13) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumPending,
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS LastSummaryTime
FROM collection o JOIN line l ON l.site = o.site JOIN software_update u ON u.line = l.id
LEFT JOIN slot s ON s.update_id = u.id LEFT JOIN collection_member m ON m.collection = o.id
LEFT JOIN seg_state g ON g.segment = s.slot / 256 AND g.client = m.client
LEFT JOIN sparse_state p ON p.slot = s.slot AND p.client = m.client
LEFT JOIN client_line w ON w.client = m.client AND w.line = u.line AND w.version >= u.since_version
GROUP BY u.id, o.id, o.site, o.name;

CREATE VIEW v_UpdateEnforcementSummaryPerCollection AS
SELECT CI_ID, CollectionID, CollectionName, NumTotal, NumInstalled, NumFailed, NumPending, NumUnknown
FROM v_UpdateSummaryPerCollection
WHERE EXISTS (SELECT 1 FROM deployment_update d WHERE d.update_id = CI_ID);

-- Deployments.
CREATE VIEW v_CIAssignment AS
SELECT d.id AS AssignmentID, d.uid AS Assignment_UniqueID, d.name AS AssignmentName, COALESCE(d.description, '') AS Description,
    5 AS AssignmentType, d.enabled AS AssignmentEnabled, o.site || '/' || o.name AS CollectionID, o.name AS CollectionName,
    d.include_subcollections AS ApplyToSubTargets, strftime('%Y-%m-%dT%H:%M:%fZ', d.available / 1000000.0, 'unixepoch') AS StartTime, strftime('%Y-%m-%dT%H:%M:%fZ', d.deadline / 1000000.0, 'unixepoch') AS EnforcementDeadline,
    strftime('%Y-%m-%dT%H:%M:%fZ', d.created / 1000000.0, 'unixepoch') AS CreationTime, strftime('%Y-%m-%dT%H:%M:%fZ', d.modified / 1000000.0, 'unixepoch') AS LastModificationTime, 1 AS DesiredConfigType,
    CASE WHEN d.required = 1 THEN 0 ELSE 2 END AS OfferTypeID, d.install_outside_windows AS OverrideServiceWindows,
    d.restart_outside_windows AS RebootOutsideOfServiceWindows, d.suppress_restart_servers + 2 * d.suppress_restart_workstations AS SuppressReboot,
    1 - d.local_time AS UseGMTTimes, d.display_notifications AS NotifyUser, d.disable_alerts AS DisableMomAlerts,
    d.alert_on_failure AS RaiseMomAlertsOnFailure, d.wake_on_lan AS WoLEnabled, d.site AS SourceSite
FROM deployment d LEFT JOIN collection o ON o.id = d.collection;

CREATE VIEW v_CIAssignmentToCI AS
SELECT d.deployment AS AssignmentID, d.update_id AS CI_ID FROM deployment_update d;

CREATE VIEW v_CIAssignmentToGroup AS
SELECT d.deployment AS AssignmentID, -d.list AS AssignedUpdateGroup FROM deployment_list d;

CREATE VIEW v_CIAssignmentTargetedMachines AS
SELECT t.deployment AS AssignmentID, t.client AS ResourceID FROM deployment_target t;

CREATE VIEW v_CIAssignmentTargetedCollections AS
SELECT d.id AS AssignmentID, o.site || '/' || o.name AS CollectionID, o.name AS CollectionName
FROM deployment d JOIN collection o ON o.id = d.collection;

CREATE VIEW v_CITargetedMachines AS
SELECT DISTINCT d.update_id AS CI_ID, t.client AS ResourceID
FROM deployment_update d JOIN deployment_target t ON t.deployment = d.deployment;

CREATE VIEW v_CITargetedCollections AS
SELECT DISTINCT u.update_id AS CI_ID, o.site || '/' || o.name AS CollectionID
FROM deployment_update u JOIN deployment d ON d.id = u.deployment JOIN collection o ON o.id = d.collection;

-- Client and deployment: every client that it reaches, whatever it said.
CREATE VIEW v_UpdateAssignmentStatus AS
SELECT t.deployment AS AssignmentID, t.client AS ResourceID, CASE WHEN s.compliance = 1 THEN 1 ELSE 0 END AS IsCompliant,
    COALESCE(s.compliance, 0) AS LastComplianceMessageID, strftime('%Y-%m-%dT%H:%M:%fZ', s.changed_at / 1000000.0, 'unixepoch') AS LastComplianceMessageTime,
    COALESCE(s.enforcement, 0) AS LastEnforcementMessageID, strftime('%Y-%m-%dT%H:%M:%fZ', s.changed_at / 1000000.0, 'unixepoch') AS LastEnforcementMessageTime,
    (SELECT f.message FROM failure f WHERE f.symbol = json_extract(s.error, '$."symbol"') AND f.code = json_extract(s.error, '$."code"')) AS LastEnforcementErrorID, (json_extract(s.error, '$."code"') - CASE WHEN json_extract(s.error, '$."code"') >= 2147483648 THEN 4294967296 ELSE 0 END) AS LastEnforcementErrorCode,
    COALESCE(s.evaluation, 0) AS LastEvaluationMessageID, strftime('%Y-%m-%dT%H:%M:%fZ', s.changed_at / 1000000.0, 'unixepoch') AS LastEvaluationMessageTime,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.until / 1000000.0, 'unixepoch') AS WaitsUntil
FROM deployment_target t JOIN deployment d ON d.id = t.deployment
LEFT JOIN deployment_client s ON s.uid = d.uid AND s.client = t.client;

CREATE VIEW v_UpdateAssignmentStatus_Live AS
SELECT * FROM v_UpdateAssignmentStatus;

CREATE VIEW v_AssignmentState_Combined AS
SELECT AssignmentID, ResourceID, CASE WHEN (LastComplianceMessageID = 1 AND LastEnforcementMessageID <> 4) OR (LastComplianceMessageID > 0 AND LastEnforcementMessageID = 0) THEN 300 ELSE 301 END AS StateType,
    CASE WHEN (LastComplianceMessageID = 1 AND LastEnforcementMessageID <> 4) OR (LastComplianceMessageID > 0 AND LastEnforcementMessageID = 0) THEN LastComplianceMessageID ELSE LastEnforcementMessageID END AS StateID, LastEnforcementMessageTime AS StateTime,
    LastEnforcementErrorID AS LastStatusMessageID
FROM v_UpdateAssignmentStatus;

CREATE VIEW v_AssignmentStatePerTopic AS
SELECT AssignmentID, ResourceID, 300 AS TopicType, LastComplianceMessageID AS StateID, LastComplianceMessageTime AS StateTime
FROM v_UpdateAssignmentStatus
UNION ALL
SELECT AssignmentID, ResourceID, 301, LastEnforcementMessageID, LastEnforcementMessageTime FROM v_UpdateAssignmentStatus
UNION ALL
SELECT AssignmentID, ResourceID, 302, LastEvaluationMessageID, LastEvaluationMessageTime FROM v_UpdateAssignmentStatus;

CREATE VIEW v_AssignmentSummaryPerTopic AS
SELECT p.AssignmentID, p.TopicType, p.StateID, n.StateName, COUNT(*) AS StateCount
FROM v_AssignmentStatePerTopic p LEFT JOIN v_StateNames n ON n.TopicType = p.TopicType AND n.StateID = p.StateID
GROUP BY p.AssignmentID, p.TopicType, p.StateID, n.StateName;

-- 1 success, 2 in progress, 4 unknown, 5 error.
CREATE VIEW vSMS_SUMDeploymentStatusPerAsset AS
SELECT AssignmentID, ResourceID,
    CASE WHEN IsCompliant = 1 THEN 1 WHEN LastEnforcementMessageID IN (6, 9) THEN 5 WHEN LastEnforcementMessageID = 0 THEN 4 ELSE 2 END AS StatusType,
    LastEnforcementMessageID AS StatusEnforcementState, LastEnforcementErrorCode AS StatusErrorCode, LastEnforcementErrorID, IsCompliant,
    LastEnforcementMessageTime AS StatusTime
FROM v_UpdateAssignmentStatus;

CREATE VIEW v_DeploymentSummary AS
SELECT d.id AS AssignmentID, o.site || '/' || o.name AS CollectionID, o.name AS CollectionName, d.name AS SoftwareName,
    5 AS FeatureType, COUNT(t.client) AS NumberTotal, CAST(COALESCE(SUM(CASE WHEN COALESCE(s.compliance, 0) = 1 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumberSuccess,
    CAST(COALESCE(SUM(CASE WHEN t.client IS NOT NULL AND COALESCE(s.compliance, 0) <> 1 AND COALESCE(s.enforcement, 0) NOT IN (0, 6, 9) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumberInProgress,
    CAST(COALESCE(SUM(CASE WHEN COALESCE(s.compliance, 0) <> 1 AND COALESCE(s.enforcement, 0) IN (6, 9) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumberErrors, CAST(0 AS INTEGER) AS NumberOther,
    CAST(COALESCE(SUM(CASE WHEN t.client IS NOT NULL AND COALESCE(s.compliance, 0) <> 1 AND COALESCE(s.enforcement, 0) = 0 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumberUnknown, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS SummarizationTime
FROM deployment d LEFT JOIN collection o ON o.id = d.collection LEFT JOIN deployment_target t ON t.deployment = d.id
LEFT JOIN deployment_client s ON s.uid = d.uid AND s.client = t.client
GROUP BY d.id, d.name, o.site, o.name;

-- Updates of a deployment on the clients that it reaches.
CREATE VIEW v_UpdateDeploymentSummary AS
SELECT u.id AS CI_ID, d.id AS AssignmentID, d.name AS AssignmentName, o.site || '/' || o.name AS CollectionID, o.name AS CollectionName,
    COUNT(m.client) AS NumTotal,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 3 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumPresent,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 2 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumMissing,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 < 2 AND w.client IS NOT NULL THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumNotApplicable,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 < 2 AND w.client IS NULL THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumUnknown,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 = 10 THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumInstalled,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 <> 3 AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 IN (6, 11, 14) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumFailed,
    CAST(COALESCE(SUM(CASE WHEN m.client IS NOT NULL AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 <> 3 AND COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4 IN (1, 2, 3, 4, 5, 7, 8, 9, 12, 13) THEN 1 ELSE 0 END), 0) AS INTEGER) AS NumPending,
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS LastSummaryTime
FROM deployment_update b JOIN deployment d ON d.id = b.deployment JOIN software_update u ON u.id = b.update_id
LEFT JOIN slot s ON s.update_id = u.id LEFT JOIN deployment_target m ON m.deployment = b.deployment
LEFT JOIN seg_state g ON g.segment = s.slot / 256 AND g.client = m.client
LEFT JOIN sparse_state p ON p.slot = s.slot AND p.client = m.client
LEFT JOIN client_line w ON w.client = m.client AND w.line = u.line AND w.version >= u.since_version
LEFT JOIN collection o ON o.id = d.collection
GROUP BY u.id, d.id, d.name, o.site, o.name;

CREATE VIEW v_Update_DeploymentSummary_Live AS
SELECT * FROM v_UpdateDeploymentSummary;

-- The 402 state of who requires it, the 500 state of everybody else.
CREATE VIEW v_AssignmentEnforcementSummaryPerUpdateAndState AS
SELECT x.AssignmentID, x.CI_ID, x.TopicType, x.StateID, n.StateName, x.StateCount,
    (SELECT COUNT(*) FROM deployment_target t WHERE t.deployment = x.AssignmentID) AS NumTotal
FROM (
    SELECT b.deployment AS AssignmentID, u.id AS CI_ID, CASE WHEN COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 2 THEN 402 ELSE 500 END AS TopicType,
        CASE WHEN COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 2 THEN COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) / 4
            WHEN COALESCE(p.state, (instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, s.slot % 256 + 1, 1)) - 1), 0) % 4 = 3 THEN 3 WHEN w.client IS NOT NULL THEN 1 ELSE 0 END AS StateID,
        COUNT(*) AS StateCount
    FROM deployment_update b JOIN deployment d ON d.id = b.deployment JOIN software_update u ON u.id = b.update_id
LEFT JOIN slot s ON s.update_id = u.id JOIN deployment_target m ON m.deployment = b.deployment
LEFT JOIN seg_state g ON g.segment = s.slot / 256 AND g.client = m.client
LEFT JOIN sparse_state p ON p.slot = s.slot AND p.client = m.client
LEFT JOIN client_line w ON w.client = m.client AND w.line = u.line AND w.version >= u.since_version
    GROUP BY 1, 2, 3, 4
) x LEFT JOIN v_StateNames n ON n.TopicType = x.TopicType AND n.StateID = x.StateID;

-- Content. A file belongs to the update that asked for it first.
CREATE VIEW v_UpdateContents AS
SELECT u.id AS CI_ID, u.id AS ContentCI_ID, f.digest AS Content_ID, f.digest AS ContentUniqueID,
    CASE WHEN f.state = 2 THEN 1 ELSE 0 END AS ContentProvisioned, f.size AS ContentSize, f.url AS ContentURL, f.message AS LastError
FROM content f JOIN line l ON l.site = f.site AND l.name = substr(f.update_name, 1, instr(f.update_name, ':') - 1)
JOIN software_update u ON u.line = l.id AND u.source = substr(substr(f.update_name, instr(f.update_name, ':') + 1), 1, instr(substr(f.update_name, instr(f.update_name, ':') + 1), '@') - 1)
    AND u.version = substr(substr(f.update_name, instr(f.update_name, ':') + 1), instr(substr(f.update_name, instr(f.update_name, ':') + 1), '@') + 1);

CREATE VIEW v_CIToContent AS
SELECT CI_ID, Content_ID AS ContentID, ContentUniqueID AS Content_UniqueID, ContentProvisioned AS ContentDownloaded FROM v_UpdateContents;

CREATE VIEW v_CIContents AS
SELECT * FROM v_CIToContent;

CREATE VIEW v_CIContents_All AS
SELECT * FROM v_CIToContent;

CREATE VIEW v_CIContentPackage AS
SELECT v.CI_ID, v.Content_ID AS ContentID, v.ContentUniqueID AS Content_UniqueID, v.ContentProvisioned AS ContentDownloaded, p.site || '/' || p.name AS PkgID
FROM v_UpdateContents v JOIN package_file f ON f.digest = v.Content_ID JOIN package p ON p.id = f.package
JOIN package_update m ON m.package = p.id AND m.update_id = v.CI_ID;

CREATE VIEW v_Package AS
SELECT p.site || '/' || p.name AS PackageID, p.name AS Name, COALESCE(p.description, '') AS Description, 5 AS PackageType, p.version AS SourceVersion,
    strftime('%Y-%m-%dT%H:%M:%fZ', p.created / 1000000.0, 'unixepoch') AS SourceDate, strftime('%Y-%m-%dT%H:%M:%fZ', p.modified / 1000000.0, 'unixepoch') AS LastRefreshTime, p.site AS SourceSite,
    (SELECT COUNT(*) FROM package_update m WHERE m.package = p.id) AS NumberOfUpdates,
    CAST((SELECT COALESCE(SUM(c.size), 0) FROM package_file f JOIN content c ON c.site = p.site AND c.digest = f.digest WHERE f.package = p.id) AS INTEGER) AS SourceSize
FROM package p;

-- How much of a package is on a distribution point.
CREATE VIEW package_place AS
SELECT p.id AS package, d.dp AS dp, COUNT(f.digest) AS files, CAST(COALESCE(SUM(CASE WHEN x.present = 1 THEN 1 ELSE 0 END), 0) AS INTEGER) AS present,
    CAST(COALESCE(SUM(CASE WHEN x.present <> 1 AND x.message IS NOT NULL THEN 1 ELSE 0 END), 0) AS INTEGER) AS failed, MAX(x.changed_at) AS changed_at
FROM package p JOIN package_point d ON d.package = p.id LEFT JOIN package_file f ON f.package = p.id
LEFT JOIN dp_content x ON x.site = p.site AND x.dp = d.dp AND x.digest = f.digest
GROUP BY p.id, d.dp;

CREATE VIEW v_DistributionPoint AS
SELECT p.site || '/' || p.name AS PackageID, d.dp AS ServerName, p.site AS SiteCode, 0 AS IsCloud
FROM package p JOIN package_point d ON d.package = p.id;

CREATE VIEW v_PackageStatusDistPointsSumm AS
SELECT p.site || '/' || p.name AS PackageID, x.dp AS ServerName, p.site AS SiteCode, p.version AS SourceVersion,
    strftime('%Y-%m-%dT%H:%M:%fZ', x.changed_at / 1000000.0, 'unixepoch') AS LastCopied, CASE WHEN x.present = x.files THEN 0 WHEN x.failed > 0 THEN 2 ELSE 1 END AS State,
    CASE CASE WHEN x.present = x.files THEN 0 WHEN x.failed > 0 THEN 2 ELSE 1 END WHEN 0 THEN 'Installed' WHEN 2 THEN 'Install Retrying' ELSE 'Install Pending' END AS InstallStatus,
    x.files AS NumberOfFiles, x.present AS NumberOfFilesPresent, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS SummaryDate
FROM package_place x JOIN package p ON p.id = x.package;

CREATE VIEW v_PackageStatusRootSummarizer AS
SELECT p.site || '/' || p.name AS PackageID, p.name AS Name, p.version AS SourceVersion, COUNT(x.dp) AS Targeted, CAST(COALESCE(SUM(CASE WHEN x.dp IS NOT NULL AND x.present = x.files THEN 1 ELSE 0 END), 0) AS INTEGER) AS Installed,
    CAST(COALESCE(SUM(CASE WHEN x.dp IS NOT NULL AND x.present < x.files AND x.failed = 0 THEN 1 ELSE 0 END), 0) AS INTEGER) AS Pending, CAST(COALESCE(SUM(CASE WHEN x.dp IS NOT NULL AND x.present < x.files AND x.failed > 0 THEN 1 ELSE 0 END), 0) AS INTEGER) AS Retrying, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS SummaryDate
FROM package p LEFT JOIN package_place x ON x.package = p.id
GROUP BY p.id, p.site, p.name, p.version;

CREATE VIEW v_PackageStatusDetailSumm AS
SELECT * FROM v_PackageStatusRootSummarizer;

CREATE VIEW v_ContentDistribution AS
SELECT p.site || '/' || p.name AS PkgID, x.dp AS DPID, CASE WHEN x.present = x.files THEN 1 WHEN x.failed > 0 THEN 3 ELSE 2 END AS State,
    strftime('%Y-%m-%dT%H:%M:%fZ', x.changed_at / 1000000.0, 'unixepoch') AS SummaryDate
FROM package_place x JOIN package p ON p.id = x.package;
