//! Each documented answer.

use serde_json::json;
use sluicegate::sandbox::{Account, NewTask, Options, SourceServer, TOKEN, TaskOptions};

use super::{body, code, rig, told, with};

#[tokio::test]
async fn a_task_is_created_with_an_id_a_date_and_a_request_id() {
    let rig = rig(Options::default()).await;
    let response = rig.post(&body("s1")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).unwrap();
    let (status, answer) = told(response).await;
    assert_eq!(status, 200);
    assert_eq!(answer["id"].as_str().unwrap().len(), 32);
    assert_eq!(rig.sandbox.tasks()[0].source(), "s1");
}

#[tokio::test]
async fn the_example_of_the_page_and_a_full_body_are_accepted() {
    let rig = rig(Options::default()).await;
    let example = json!({
        "name": "MigrationTask", "type": "MIGRATE_FILE", "os_type": "LINUX", "start_target_server": true,
        "use_public_ip": true, "migration_ip": "192.168.0.1", "region_name": "region_name", "region_id": "region_id",
        "project_name": "project_name", "project_id": "xxxxxxxxxxxxxxxxxxxxxxxx00000001",
        "source_server": {"id": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxx0001"},
        "target_server": {
            "vm_id": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxx0001", "name": "Auto-tar-name",
            "disks": [{
                "name": "/dev/vda", "disk_id": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxx0001", "size": 42_949_672_960_u64,
                "used_size": 429_496, "device_use": "BOOT",
                "physical_volumes": [{
                    "uuid": null, "index": 0, "name": "/dev/vda1", "device_use": "OS", "file_system": "ext4",
                    "mount_point": "/", "size": 42_947_575_808_u64, "used_size": 5_346_484_224_u64,
                }],
            }],
            "volume_groups": [],
        },
        "is_need_consistency_check": true,
    });
    assert_eq!(rig.post(&example).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_the_contract_is_told_what_is_wrong() {
    let rig = rig(Options::default()).await;
    for (body, expected) in [
        (with("s", "name", json!("")), "SMS.7711"),
        (with("s", "type", json!("MIGRATE_TAPE")), "SMS.7712"),
        (with("s", "os_type", json!("BEOS")), "SMS.6601"),
        (with("s", "source_server", json!({})), "SMS.6030"),
        (with("s", "region_id", json!(null)), "SMS.6034"),
        (with("s", "priority", json!(65_536)), "SMS.6011"),
    ] {
        let (status, answer) = told(rig.post(&body).await.unwrap()).await;
        assert_eq!((status, code(&answer)), (400, expected), "{body}");
        let pointer = answer["error_param"][0].as_str().unwrap();
        assert!(answer["details"][0]["error_msg"].as_str().unwrap().starts_with(pointer));
    }
    for (text, expected) in [("", "SMS.6012"), ("{", "SMS.6010"), ("[1]", "SMS.6011")] {
        let post = rig.client.post(rig.url("/v3/tasks")).header("X-Auth-Token", TOKEN);
        let post = post.header("Content-Type", "application/json").body(text);
        let (status, answer) = told(post.send().await.unwrap()).await;
        assert_eq!((status, code(&answer)), (400, expected), "{text}");
    }
    assert!(rig.sandbox.tasks().is_empty());
}

#[tokio::test]
async fn a_body_needs_its_content_type_and_a_bounded_length() {
    let rig = rig(Options { max_body: 400, ..Options::default() }).await;
    let post = || rig.client.post(rig.url("/v3/tasks")).header("X-Auth-Token", TOKEN);
    let (status, answer) = told(post().body(body("s1").to_string()).send().await.unwrap()).await;
    assert_eq!((status, code(&answer)), (400, "SMS.6016"));
    let long = with("s1", "migration_ip", json!("x".repeat(300)));
    let (status, answer) = told(rig.post(&long).await.unwrap()).await;
    assert_eq!((status, code(&answer)), (400, "SMS.6014"));
}

#[tokio::test]
async fn a_source_server_has_one_live_task() {
    let rig = rig(Options::default()).await;
    let id = rig.create("s1").await;
    let (status, answer) = told(rig.post(&body("s1")).await.unwrap()).await;
    assert_eq!((status, code(&answer)), (400, "SMS.7605"));
    assert!(answer["error_msg"].as_str().unwrap().contains(&id));
    assert!(rig.sandbox.set_state(&id, "MIGRATE_SUCCESS"));
    rig.create("s1").await;
    let twice = rig.sandbox.stats(&[]).created_twice;
    assert_eq!((twice.sources, twice.named[0].tasks), (1, 2));
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_task_is_configurable() {
    let tasks = TaskOptions {
        conflict_code: "SMS.6005".to_owned(),
        target_conflict_code: Some("SMS.6615".to_owned()),
        ended_block: true,
        full_code: Some("SMS.6407".to_owned()),
        max_running: 1,
        ..TaskOptions::default()
    };
    let rig = rig(Options { tasks, ..Options::default() }).await;
    let ended = NewTask {
        source_server_id: "s1".to_owned(),
        state: "MIGRATE_FAIL".to_owned(),
        ..NewTask::default()
    };
    let live = NewTask {
        source_server_id: "s0".to_owned(),
        vm_id: "vm-s2".to_owned(),
        ..NewTask::default()
    };
    let ids = rig.sandbox.preload(vec![ended, live]);
    let answered = async |source| told(rig.post(&body(source)).await.unwrap()).await;
    assert_eq!(code(&answered("s1").await.1), "SMS.6005");
    assert_eq!(code(&answered("s2").await.1), "SMS.6615");
    assert!(rig.sandbox.set_state(&ids[1], "RUNNING"));
    assert_eq!(code(&answered("s3").await.1), "SMS.6407");
    assert!(rig.sandbox.delete(&ids[0]) && rig.sandbox.delete(&ids[1]));
    assert_eq!(answered("s1").await.0, 200);
}

#[tokio::test]
async fn an_unknown_and_an_unconnected_source_server_are_refused() {
    let sources = vec![
        SourceServer::connected("s1"),
        SourceServer { connected: false, ..SourceServer::connected("s2") },
    ];
    let rig = rig(Options { sources: Some(sources), ..Options::default() }).await;
    rig.create("s1").await;
    for (source, expected) in [("s2", "SMS.6603"), ("s3", "SMS.7602")] {
        let (status, answer) = told(rig.post(&body(source)).await.unwrap()).await;
        assert_eq!((status, code(&answer)), (400, expected));
    }
}

#[tokio::test]
async fn a_task_is_shown_with_its_fields_and_an_unknown_one_is_7703() {
    let rig = rig(Options { clock_skew: 3600.0, ..Options::default() }).await;
    let before = jiff::Timestamp::now().as_millisecond();
    let id = rig.create("s1").await;
    let (status, task) = rig.get(&format!("/v3/tasks/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(task["id"], id.as_str());
    assert_eq!((&task["name"], &task["state"]), (&json!("MigrationTask"), &json!("READY")));
    assert_eq!((&task["priority"], &task["os_type"]), (&json!(1), &json!("LINUX")));
    assert_eq!(task["source_server"]["id"], "s1");
    assert_eq!(task["target_server"]["vm_id"], "vm-s1");
    let created = task["create_date"].as_i64().unwrap() - before;
    assert!((3_590_000..3_610_000).contains(&created), "by the API's clock: {created}");

    let (status, answer) = rig.get("/v3/tasks/none").await;
    assert_eq!((status, code(&answer)), (400, "SMS.7703"));
}

#[tokio::test]
async fn listings_filter_count_and_page() {
    let rig = rig(Options::default()).await;
    let tasks = (0..250).map(|n| NewTask {
        name: format!("wave{}", n % 2),
        source_server_id: format!("s{n}"),
        state: if n < 10 { "RUNNING" } else { "MIGRATE_SUCCESS" }.to_owned(),
        enterprise_project_id: if n == 7 { "eps" } else { "0" }.to_owned(),
        ..NewTask::default()
    });
    let ids = rig.sandbox.preload(tasks.collect());
    for (query, count, rows) in [
        ("", 250, 100),
        ("?limit=200", 250, 200),
        ("?limit=200&offset=200", 250, 50),
        ("?limit=0", 250, 0),
        ("?offset=65535", 250, 0),
        ("?state=RUNNING", 10, 10),
        ("?name=wave1&state=RUNNING&limit=3", 5, 3),
        ("?source_server_id=s7", 1, 1),
        ("?source_server_id=s7&state=READY", 0, 0),
        ("?enterprise_project_id=eps", 1, 1),
        (&format!("?id={}", ids[3]), 1, 1),
    ] {
        let (status, page) = rig.get(&format!("/v3/tasks{query}")).await;
        assert_eq!((status, &page["count"]), (200, &json!(count)), "{query}");
        assert_eq!(page["tasks"].as_array().unwrap().len(), rows, "{query}");
    }
    let (_, page) = rig.get("/v3/tasks?source_server_id=s7").await;
    assert_eq!(page["tasks"][0]["source_server"]["id"], "s7");
    for wrong in ["?limit=201", "?limit=-1", "?offset=65536", "?limit=x"] {
        let (status, answer) = rig.get(&format!("/v3/tasks{wrong}")).await;
        assert_eq!((status, code(&answer)), (400, "SMS.9001"), "{wrong}");
    }
}

#[tokio::test]
async fn source_servers_are_shown_with_their_task() {
    let sources = vec![
        SourceServer::connected("s1"),
        SourceServer { connected: false, ..SourceServer::connected("s2") },
        SourceServer::connected("s3"),
    ];
    let rig = rig(Options { sources: Some(sources), ..Options::default() }).await;
    let id = rig.create("s1").await;
    let (_, source) = rig.get("/v3/sources/s1").await;
    assert_eq!(source["current_task"]["id"], id.as_str());
    assert_eq!((&source["connected"], &source["state"]), (&json!(true), &json!("initialize")));
    let (_, source) = rig.get("/v3/sources/s3").await;
    assert_eq!((&source["current_task"], &source["state"]), (&json!(null), &json!("waiting")));
    let (status, answer) = rig.get("/v3/sources/s9").await;
    assert_eq!((status, code(&answer)), (400, "SMS.7602"));
    for (query, count) in [
        ("", 3),
        ("?connected=false", 1),
        ("?connected=true&state=waiting", 1),
        ("?id=s2", 1),
        ("?limit=1", 3),
    ] {
        let (_, page) = rig.get(&format!("/v3/sources{query}")).await;
        assert_eq!(page["count"], json!(count), "{query}");
    }
    let (_, page) = rig.get("/v3/sources?limit=1&offset=2").await;
    assert_eq!(page["source_servers"][0]["id"], "s3");
}

#[tokio::test]
async fn the_states_of_the_account_have_their_documented_bodies() {
    let rig = rig(Options::default()).await;
    for (state, status, expected) in [
        (Account::Frozen, 400, "SMS.6525"),
        (Account::Arrears, 400, "SMS.6529"),
        (Account::NoPermission, 403, "SMS.9004"),
        (Account::TokenRevoked, 401, "APIGW.0307"),
    ] {
        rig.sandbox.set_account(state);
        let (seen, answer) = told(rig.post(&body("s1")).await.unwrap()).await;
        assert_eq!((seen, code(&answer)), (status, expected));
        let fields = ["encoded_authorization_message", "error_param", "details"];
        let has_all = fields.iter().all(|field| answer.get(field).is_some());
        assert_eq!(has_all, state == Account::NoPermission);
    }
    rig.sandbox.set_account(Account::Ok);
    rig.create("s1").await;
}

#[tokio::test]
async fn an_unknown_path_is_the_gateways_404() {
    let rig = rig(Options::default()).await;
    let (status, answer) = rig.get("/v3/servers").await;
    assert_eq!((status, code(&answer)), (404, "APIGW.0101"));
    assert_eq!(answer["request_id"].as_str().unwrap().len(), 32);
}
