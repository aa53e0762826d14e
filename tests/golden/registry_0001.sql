-- What the first released schema looked like, filled by the registry of that release.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE api_key (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	CONSTRAINT pk_api_key PRIMARY KEY (id), 
	CONSTRAINT uq_api_key_name UNIQUE (name), 
	CONSTRAINT uq_api_key_sha256 UNIQUE (sha256)
);
INSERT INTO "api_key" VALUES(1,'admin','41c3d51b9b412ac0f0eb297252ec2aaed2356f5c52d87f97969a7afb12f9ed5a',1800000000.0,NULL);
CREATE TABLE batch (
	id INTEGER NOT NULL, 
	device VARCHAR NOT NULL, 
	epoch VARCHAR NOT NULL, 
	sequence BIGINT NOT NULL, 
	sent_at FLOAT NOT NULL, 
	received_at FLOAT NOT NULL, 
	records INTEGER NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	CONSTRAINT pk_batch PRIMARY KEY (id), 
	CONSTRAINT fk_batch_device FOREIGN KEY(device) REFERENCES device (id), 
	CONSTRAINT uq_batch_device_epoch_sequence UNIQUE (device, epoch, sequence)
);
INSERT INTO "batch" VALUES(1,'dev-a','e1',1,1800000000.0,1800000000.0,3,452);
INSERT INTO "batch" VALUES(2,'dev-a','e1',2,1800000000.0,1800000000.0,3,452);
CREATE TABLE bundle (
	digest VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_bundle PRIMARY KEY (digest)
);
INSERT INTO "bundle" VALUES('a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1','onnx',3,1800000000.0);
INSERT INTO "bundle" VALUES('300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1','onnx',3,1800000000.0);
INSERT INTO "bundle" VALUES('057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41','onnx',5,1800000000.0);
CREATE TABLE bundle_blob (
	bundle VARCHAR NOT NULL, 
	blob VARCHAR NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	CONSTRAINT pk_bundle_blob PRIMARY KEY (bundle, blob), 
	CONSTRAINT fk_bundle_blob_bundle FOREIGN KEY(bundle) REFERENCES bundle (digest)
);
INSERT INTO "bundle_blob" VALUES('a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1','7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed',3);
INSERT INTO "bundle_blob" VALUES('a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1','a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1',309);
INSERT INTO "bundle_blob" VALUES('300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1','3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3',3);
INSERT INTO "bundle_blob" VALUES('300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1','300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1',309);
INSERT INTO "bundle_blob" VALUES('057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41','8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f',5);
INSERT INTO "bundle_blob" VALUES('057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41','057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41',312);
CREATE TABLE certificate (
	serial VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	pem TEXT NOT NULL, 
	issued_at FLOAT NOT NULL, 
	not_after FLOAT NOT NULL, 
	CONSTRAINT pk_certificate PRIMARY KEY (serial), 
	CONSTRAINT fk_certificate_device FOREIGN KEY(device) REFERENCES device (id)
);
INSERT INTO "certificate" VALUES('7c3788c481c0df30f3d0e7bca908ef5129adc79e','dev-a','-----BEGIN CERTIFICATE-----
MIIB3jCCAYSgAwIBAgIUfDeIxIHA3zDz0Oe8qQjvUSmtx54wCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZcGFja2hvcnNlIENBIGE3OWM3ZGZhZTNjYjAeFw03MDAxMDEw
MDAwMDBaFw0yODExMjEyMDE3MTVaMEMxMTAvBgNVBAUTKDdjMzc4OGM0ODFjMGRm
MzBmM2QwZTdiY2E5MDhlZjUxMjlhZGM3OWUxDjAMBgNVBAMMBWRldi1hMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEd3f9Yfv6e49NwA5zS2AnLfPtLnY5pw9xJZbd
P/m9bgzL/b89YeWa5H4yNvs62dCEc8/WEa5+PgfP6yJdJeCiXaN1MHMwDAYDVR0T
AQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYD
VR0OBBYEFHN2cesGbJj0ZsiUKIFxeZzpBpTHMB8GA1UdIwQYMBaAFKecffrjy3hz
TyNHu0ihWzaWtS+GMAoGCCqGSM49BAMCA0gAMEUCIQDTtODkQzYORHkRiJx+DRuB
5EVEdURhN/1mfZJsjI7ilQIgBLpurQmJeXV4DKeKtCdh466yfQl32owE55u/Yd/S
BkM=
-----END CERTIFICATE-----
',1800000000.0,1858450635.0);
INSERT INTO "certificate" VALUES('2309a58297b61b615d4098b0efcd0cb4c146b654','dev-b','-----BEGIN CERTIFICATE-----
MIIB3jCCAYSgAwIBAgIUIwmlgpe2G2FdQJiw780MtMFGtlQwCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZcGFja2hvcnNlIENBIGE3OWM3ZGZhZTNjYjAeFw03MDAxMDEw
MDAwMDBaFw0yODExMjEyMDE3MTVaMEMxMTAvBgNVBAUTKDIzMDlhNTgyOTdiNjFi
NjE1ZDQwOThiMGVmY2QwY2I0YzE0NmI2NTQxDjAMBgNVBAMMBWRldi1iMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEd3f9Yfv6e49NwA5zS2AnLfPtLnY5pw9xJZbd
P/m9bgzL/b89YeWa5H4yNvs62dCEc8/WEa5+PgfP6yJdJeCiXaN1MHMwDAYDVR0T
AQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYD
VR0OBBYEFHN2cesGbJj0ZsiUKIFxeZzpBpTHMB8GA1UdIwQYMBaAFKecffrjy3hz
TyNHu0ihWzaWtS+GMAoGCCqGSM49BAMCA0gAMEUCIQCBABnB4Yv0yhb4RCll13SP
ylUjzvXrdGmD3GULNjvmlwIgFftTHngBxJj0jeOhtgNb+nmyPAgq/4g6HCuU53EL
RkQ=
-----END CERTIFICATE-----
',1800000000.0,1858450635.0);
INSERT INTO "certificate" VALUES('2728bbc92a3e8d3d441f29d012ca0f100a216c52','dev-c','-----BEGIN CERTIFICATE-----
MIIB3TCCAYSgAwIBAgIUJyi7ySo+jT1EHynQEsoPEAohbFIwCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZcGFja2hvcnNlIENBIGE3OWM3ZGZhZTNjYjAeFw03MDAxMDEw
MDAwMDBaFw0yODExMjEyMDE3MTVaMEMxMTAvBgNVBAUTKDI3MjhiYmM5MmEzZThk
M2Q0NDFmMjlkMDEyY2EwZjEwMGEyMTZjNTIxDjAMBgNVBAMMBWRldi1jMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEd3f9Yfv6e49NwA5zS2AnLfPtLnY5pw9xJZbd
P/m9bgzL/b89YeWa5H4yNvs62dCEc8/WEa5+PgfP6yJdJeCiXaN1MHMwDAYDVR0T
AQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYD
VR0OBBYEFHN2cesGbJj0ZsiUKIFxeZzpBpTHMB8GA1UdIwQYMBaAFKecffrjy3hz
TyNHu0ihWzaWtS+GMAoGCCqGSM49BAMCA0cAMEQCIGFc1Vy4/jhA+jcvqDLss3Go
jgBPHLvKUIBBg28RiHNGAiBOvbmQZCEGvmH3ww1gkXvwUBJKpLt7J6lWBWQSItEq
cg==
-----END CERTIFICATE-----
',1800000000.0,1858450635.0);
CREATE TABLE deployment (
	sequence INTEGER NOT NULL, 
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	bundle VARCHAR NOT NULL, 
	module VARCHAR NOT NULL, 
	selector VARCHAR NOT NULL, 
	sources JSON, 
	capture JSON NOT NULL, 
	soak_s FLOAT NOT NULL, 
	attempt INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by VARCHAR NOT NULL, 
	cancelled_at FLOAT, 
	CONSTRAINT pk_deployment PRIMARY KEY (sequence), 
	CONSTRAINT fk_deployment_bundle FOREIGN KEY(bundle) REFERENCES bundle (digest), 
	CONSTRAINT fk_deployment_model FOREIGN KEY(model) REFERENCES model (name), 
	CONSTRAINT uq_deployment_id UNIQUE (id)
);
INSERT INTO "deployment" VALUES(1,'dep-wblqgbne','first','digits',1,'a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1','digits','site=lab',NULL,'{"inputs": 0.0}',30.0,0,1800000000.0,'key:admin',NULL);
INSERT INTO "deployment" VALUES(2,'dep-uk4tdy4l','','digits',2,'300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1','digits','device!=nobody',NULL,'{"inputs": 0.0}',5.0,0,1800000000.0,'key:admin',NULL);
INSERT INTO "deployment" VALUES(3,'dep-2wq7psco','','vibration',1,'057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41','vibration','site=far','["directory:inbox"]','{"inputs": 0.0}',30.0,0,1800000000.0,'key:admin',1800000000.0);
CREATE TABLE desired (
	device VARCHAR NOT NULL, 
	generation INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	published_generation INTEGER NOT NULL, 
	CONSTRAINT pk_desired PRIMARY KEY (device), 
	CONSTRAINT fk_desired_device FOREIGN KEY(device) REFERENCES device (id)
);
INSERT INTO "desired" VALUES('dev-a',3,'{"device":"dev-a","generation":3,"issued_at":1800000000.0,"modules":[{"name":"digits","bundle":"300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1","model":"digits","version":2,"deployment":"dep-uk4tdy4l","capture":{"inputs":0.0},"soak_s":5.0}]}',0);
INSERT INTO "desired" VALUES('dev-b',4,'{"device":"dev-b","generation":4,"issued_at":1800000000.0,"modules":[{"name":"digits","bundle":"300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1","model":"digits","version":2,"deployment":"dep-uk4tdy4l","capture":{"inputs":0.0},"soak_s":5.0}]}',0);
INSERT INTO "desired" VALUES('dev-c',3,'{"device":"dev-c","generation":3,"issued_at":1800000000.0}',0);
CREATE TABLE device (
	id VARCHAR NOT NULL, 
	labels JSON NOT NULL, 
	facts JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	certificate_serial VARCHAR NOT NULL, 
	certificate_not_after FLOAT NOT NULL, 
	revoked_at FLOAT, 
	online BOOLEAN, 
	lease_s FLOAT, 
	last_seen FLOAT, 
	reported JSON, 
	reported_at FLOAT, 
	reported_generation INTEGER NOT NULL, 
	CONSTRAINT pk_device PRIMARY KEY (id)
);
INSERT INTO "device" VALUES('dev-a','{"site": "lab"}','{"arch": "aarch64"}',1800000000.0,'7c3788c481c0df30f3d0e7bca908ef5129adc79e',1858450635.0,NULL,1,60.0,1800000000.0,'{"device": "dev-a", "generation": 2, "at": 1.0, "modules": [{"name": "digits", "phase": "running", "bundle": "a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1", "model": "digits", "version": 1, "deployment": "dep-wblqgbne", "since": 1.0, "running": {"bundle": "a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1", "model": "m", "version": 1}}]}',1800000000.0,2);
INSERT INTO "device" VALUES('dev-b','{"site": "far"}','{}',1800000000.0,'2309a58297b61b615d4098b0efcd0cb4c146b654',1858450635.0,NULL,NULL,NULL,NULL,'null',NULL,0);
INSERT INTO "device" VALUES('dev-c','{}','{}',1800000000.0,'2728bbc92a3e8d3d441f29d012ca0f100a216c52',1858450635.0,1800000000.0,0,NULL,NULL,'null',NULL,0);
CREATE TABLE enrolment_token (
	sha256 VARCHAR NOT NULL, 
	labels JSON NOT NULL, 
	device VARCHAR, 
	created_at FLOAT NOT NULL, 
	created_by VARCHAR NOT NULL, 
	expires_at FLOAT NOT NULL, 
	used_at FLOAT, 
	used_by VARCHAR, 
	CONSTRAINT pk_enrolment_token PRIMARY KEY (sha256), 
	CONSTRAINT fk_enrolment_token_used_by FOREIGN KEY(used_by) REFERENCES device (id)
);
INSERT INTO "enrolment_token" VALUES('2e3097e7ab3b14fad678aaff94f7ec2f701df3015537a249cbbbfeeaf60b4d87','{"site": "lab"}',NULL,1800000000.0,'key:admin',1800003600.0,1800000000.0,'dev-a');
INSERT INTO "enrolment_token" VALUES('374ee0db5c952c792b13a8a61428a10d54376534c111a3aede54c814de6e57a9','{"site": "far"}',NULL,1800000000.0,'key:admin',1800003600.0,1800000000.0,'dev-b');
INSERT INTO "enrolment_token" VALUES('767e7cb2b5d5e8cacba8302984498d95bf356bcec6cbf768961594cd075d1fae','{}',NULL,1800000000.0,'key:admin',1800003600.0,1800000000.0,'dev-c');
INSERT INTO "enrolment_token" VALUES('7ec2faa4549c15797d845165ed23959d2a9cac8c157090b3b2c1f4aa88cf5d6e','{"site": "lab"}',NULL,1800000000.0,'key:admin',1800003600.0,NULL,NULL);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	actor VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (id)
);
INSERT INTO "event" VALUES(1,1800000000.0,'registry','key.created','admin','{}');
INSERT INTO "event" VALUES(2,1800000000.0,'key:admin','version.registered','digits:1','{"bundle": "a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1"}');
INSERT INTO "event" VALUES(3,1800000000.0,'key:admin','version.registered','digits:2','{"bundle": "300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1"}');
INSERT INTO "event" VALUES(4,1800000000.0,'key:admin','version.registered','vibration:1','{"bundle": "057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41"}');
INSERT INTO "event" VALUES(5,1800000000.0,'key:admin','token.created','any device','{"labels": {"site": "lab"}, "expires_at": 1800003600.0}');
INSERT INTO "event" VALUES(6,1800000000.0,'device:dev-a','device.enrolled','dev-a','{"serial": "7c3788c481c0df30f3d0e7bca908ef5129adc79e", "labels": {"site": "lab"}, "token_by": "key:admin"}');
INSERT INTO "event" VALUES(7,1800000000.0,'key:admin','token.created','any device','{"labels": {"site": "far"}, "expires_at": 1800003600.0}');
INSERT INTO "event" VALUES(8,1800000000.0,'device:dev-b','device.enrolled','dev-b','{"serial": "2309a58297b61b615d4098b0efcd0cb4c146b654", "labels": {"site": "far"}, "token_by": "key:admin"}');
INSERT INTO "event" VALUES(9,1800000000.0,'key:admin','token.created','any device','{"labels": {}, "expires_at": 1800003600.0}');
INSERT INTO "event" VALUES(10,1800000000.0,'device:dev-c','device.enrolled','dev-c','{"serial": "2728bbc92a3e8d3d441f29d012ca0f100a216c52", "labels": {}, "token_by": "key:admin"}');
INSERT INTO "event" VALUES(11,1800000000.0,'key:admin','token.created','any device','{"labels": {"site": "lab"}, "expires_at": 1800003600.0}');
INSERT INTO "event" VALUES(12,1800000000.0,'key:admin','deployment.created','dep-wblqgbne','{"model": "digits", "version": 1, "bundle": "a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1", "selector": "site=lab", "devices": 1}');
INSERT INTO "event" VALUES(13,1800000000.0,'device:dev-a','device.converged','dev-a','{"module": "digits", "model": "digits", "version": 1, "bundle": "a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1", "deployment": "dep-wblqgbne", "reason": ""}');
INSERT INTO "event" VALUES(14,1800000000.0,'key:admin','deployment.created','dep-uk4tdy4l','{"model": "digits", "version": 2, "bundle": "300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1", "selector": "device!=nobody", "devices": 3}');
INSERT INTO "event" VALUES(15,1800000000.0,'key:admin','deployment.created','dep-2wq7psco','{"model": "vibration", "version": 1, "bundle": "057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41", "selector": "site=far", "devices": 1}');
INSERT INTO "event" VALUES(16,1800000000.0,'key:admin','deployment.cancelled','dep-2wq7psco','{}');
INSERT INTO "event" VALUES(17,1800000000.0,'key:admin','device.revoked','dev-c','{}');
CREATE TABLE model (
	name VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_model PRIMARY KEY (name)
);
INSERT INTO "model" VALUES('digits',1800000000.0);
INSERT INTO "model" VALUES('vibration',1800000000.0);
CREATE TABLE record (
	id INTEGER NOT NULL, 
	batch_id BIGINT NOT NULL, 
	place INTEGER NOT NULL, 
	device VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	time_estimated BOOLEAN NOT NULL, 
	module VARCHAR NOT NULL, 
	bundle VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	latency_ms FLOAT NOT NULL, 
	outputs JSON, 
	inputs JSON, 
	request VARCHAR, 
	source VARCHAR, 
	item VARCHAR, 
	error VARCHAR, 
	kind VARCHAR NOT NULL, 
	CONSTRAINT pk_record PRIMARY KEY (id), 
	CONSTRAINT fk_record_batch_id FOREIGN KEY(batch_id) REFERENCES batch (id), 
	CONSTRAINT uq_record_batch_id_place UNIQUE (batch_id, place)
);
INSERT INTO "record" VALUES(1,1,0,'dev-a',1.80000000010181617736e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.805,'{"probabilities":[[0.6881979703903198,0.0006182860815897584,0.005311036482453346,0.12401977181434631,0.0019345672335475683,0.032870322465896606,0.06986185163259506,0.003372427076101303,0.0008039792883209884,0.07300978899002075]],"label":[0]}',NULL,'req-10','directory:/var/lib/packhorse/inbox','digits.csv#10',NULL,'result');
INSERT INTO "record" VALUES(2,1,1,'dev-a',1.80000000011167144778e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.733,'{"probabilities":[[0.3643755614757538,0.5910896062850952,0.009324434213340282,0.0007710515055805445,0.000288549461401999,0.008394983597099781,0.0003560519253369421,0.00010260614362778142,0.013895523734390736,0.01140161044895649]],"label":[1]}',NULL,'req-11','directory:/var/lib/packhorse/inbox','digits.csv#11',NULL,'result');
INSERT INTO "record" VALUES(3,1,2,'dev-a',1.80000000012116217612e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.458,'{"probabilities":[[0.984311044216156,0.00012110226089134812,0.0028922089841216803,0.0013730109203606844,0.010836146771907806,0.000013182202565076295,0.00025489795370958745,0.0000928343361010775,0.00003520889731589705,0.00007036602619336918]],"label":[0]}',NULL,'req-12','directory:/var/lib/packhorse/inbox','digits.csv#12',NULL,'result');
INSERT INTO "record" VALUES(4,2,0,'dev-a',1.80000000020181632042e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.805,'{"probabilities":[[0.6881979703903198,0.0006182860815897584,0.005311036482453346,0.12401977181434631,0.0019345672335475683,0.032870322465896606,0.06986185163259506,0.003372427076101303,0.0008039792883209884,0.07300978899002075]],"label":[0]}',NULL,'req-20','directory:/var/lib/packhorse/inbox','digits.csv#20',NULL,'result');
INSERT INTO "record" VALUES(5,2,1,'dev-a',1.80000000021167159084e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.733,'{"probabilities":[[0.3643755614757538,0.5910896062850952,0.009324434213340282,0.0007710515055805445,0.000288549461401999,0.008394983597099781,0.0003560519253369421,0.00010260614362778142,0.013895523734390736,0.01140161044895649]],"label":[1]}',NULL,'req-21','directory:/var/lib/packhorse/inbox','digits.csv#21',NULL,'result');
INSERT INTO "record" VALUES(6,2,2,'dev-a',1.80000000022116231918e+09,0,'digits','abababababababababababababababababababababababababababababababab','digits',2,0.458,'{"probabilities":[[0.984311044216156,0.00012110226089134812,0.0028922089841216803,0.0013730109203606844,0.010836146771907806,0.000013182202565076295,0.00025489795370958745,0.0000928343361010775,0.00003520889731589705,0.00007036602619336918]],"label":[0]}',NULL,'req-22','directory:/var/lib/packhorse/inbox','digits.csv#22',NULL,'result');
CREATE TABLE rejected_batch (
	id INTEGER NOT NULL, 
	device VARCHAR NOT NULL, 
	epoch VARCHAR, 
	sequence BIGINT, 
	received_at FLOAT NOT NULL, 
	reason VARCHAR NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_rejected_batch PRIMARY KEY (id)
);
INSERT INTO "rejected_batch" VALUES(1,'dev-a',NULL,NULL,1800000000.0,'batch: ''11 bytes'' is not accepted: Expected `array`, got `int`',X'006E6F6E73656E736520FF');
CREATE TABLE version (
	model VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	bundle VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by VARCHAR NOT NULL, 
	description VARCHAR NOT NULL, 
	tags JSON NOT NULL, 
	CONSTRAINT pk_version PRIMARY KEY (model, number), 
	CONSTRAINT fk_version_bundle FOREIGN KEY(bundle) REFERENCES bundle (digest), 
	CONSTRAINT fk_version_model FOREIGN KEY(model) REFERENCES model (name)
);
INSERT INTO "version" VALUES('digits',1,'a53103a956f7b8aca8ba3f4ea496c5c5eb1e2614fe06852b9b8d844f3f14afa1',1800000000.0,'key:admin','','{}');
INSERT INTO "version" VALUES('digits',2,'300234330b74fa696fcd873ea4986f7cadc368ca551b8affbcac8a0503775df1',1800000000.0,'key:admin','','{}');
INSERT INTO "version" VALUES('vibration',1,'057d0770fc65cdfd2edece403bfcecfb596f0a37bad15841e3fd7211861a7a41',1800000000.0,'key:admin','','{}');
CREATE INDEX ix_event_subject ON event (subject);
CREATE INDEX ix_bundle_blob_blob ON bundle_blob (blob);
CREATE INDEX ix_version_bundle ON version (bundle);
CREATE INDEX ix_certificate_device ON certificate (device);
CREATE INDEX ix_deployment_bundle ON deployment (bundle);
CREATE INDEX ix_deployment_cancelled_at ON deployment (cancelled_at);
CREATE INDEX ix_rejected_batch_device ON rejected_batch (device);
CREATE INDEX ix_record_model_version ON record (model, version);
COMMIT;
