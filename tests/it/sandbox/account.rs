//! Does an account of the sandbox tell what a real one would? Its source servers, their tasks, and the filters.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluicegate::contract::{self, Rules};
use sluicegate::sandbox::{Options, SourceServer};

use super::{Rig, body, code, rig, told, with};

/// The fields of the vendor's own models.
const ROW: [&str; 24] = [
    "id",
    "ip",
    "name",
    "enterprise_project_id",
    "add_date",
    "os_type",
    "os_version",
    "oem_system",
    "state",
    "connected",
    "cpu_quantity",
    "memory",
    "current_task",
    "checks",
    "init_target_server",
    "replicatesize",
    "stage_action_time",
    "totalsize",
    "last_visit_time",
    "migration_cycle",
    "state_action_time",
    "is_consistency_result_exist",
    "has_tc",
    "start_type",
];
const SINGLE: [&str; 7] =
    ["hostname", "firmware", "disks", "volume_groups", "btrfs_list", "networks", "agent_version"];

async fn account(servers: u32) -> Rig {
    rig(Options { servers, seed: 5, ..Options::default() }).await
}

async fn page(rig: &Rig, query: &str) -> (u64, Vec<Value>) {
    let (status, page) = rig.get(&format!("/v3/sources{query}")).await;
    assert_eq!(status, 200, "{query}: {page}");
    (page["count"].as_u64().unwrap(), page["source_servers"].as_array().unwrap().clone())
}

#[tokio::test]
async fn every_field_of_the_vendors_models_is_told() {
    let rig = account(300).await;
    let (count, rows) = page(&rig, "").await;
    assert_eq!((count, rows.len()), (300, 200), "the default page is 200");
    for row in &rows {
        let missing: Vec<_> = ROW.iter().filter(|field| row.get(**field).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} of {row}");
    }
    let btrfs = rows.iter().find(|row| row["os_version"] == "SUSE12SP5").unwrap();
    let (_, single) = rig.get(&format!("/v3/sources/{}", btrfs["id"].as_str().unwrap())).await;
    for field in ROW.iter().chain(&SINGLE).filter(|f| **f != "is_consistency_result_exist") {
        assert!(single.get(*field).is_some(), "{field}");
    }
    assert_eq!(single["btrfs_list"][0]["subvolumn"][0]["subvol_name"], "@");
    assert_eq!(single["memory"].as_u64().unwrap() << 20, btrfs["memory"].as_u64().unwrap());
    assert!(btrfs.get("btrfs_list").is_none(), "only the single view has it");
}

#[tokio::test]
async fn the_filters_of_the_list_are_kept() {
    let rig = account(300).await;
    let (one, by_ipv6) = page(&rig, "?ipv6=fd00:20::0:a").await;
    let (_, by_ip) = page(&rig, "?ip=10.20.0.10").await;
    assert_eq!((one, &by_ipv6[0]["id"]), (1, &by_ip[0]["id"]));
    for (query, count) in [
        ("?connected=false", 15),
        ("?state=unavailable", 21),
        ("?migration_cycle=syncing", 15),
        ("?migproject=move-2026", 100),
        ("?enterprise_project_id=4f0a1c6e-6c1d-4b0e-9a53-0f6a7f7ce0d1", 30),
        ("?enterprise_project_id=all_granted_eps", 300),
        ("?is_consistency_result_exist=true", 0),
        ("?vm_id=vm-0003", 1),
        ("?name=web-prod-01", 2),
    ] {
        assert_eq!(page(&rig, query).await.0, count, "{query}");
    }
}

#[tokio::test]
async fn the_overview_counts_the_states() {
    let rig = account(300).await;
    let (status, overview) = rig.get("/v3/sources/overview").await;
    assert_eq!(
        (status, &overview["unavailable"], &overview["syncing"]),
        (200, &json!(21), &json!(15))
    );
    let sum: u64 = overview.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, 300);
}

#[tokio::test]
async fn what_an_agent_reports_of_disks_is_taken_by_the_create_call_and_by_the_page() {
    let rig = account(120).await;
    let strict = Rules { strict: true, ..Rules::default() };
    let mut created = 0;
    for row in page(&rig, "?connected=true&state=waiting").await.1 {
        let id = row["id"].as_str().unwrap();
        let (_, single) = rig.get(&format!("/v3/sources/{id}")).await;
        let mut body = body(id);
        body["os_type"] = row["os_type"].clone();
        let target = &mut body["target_server"];
        for part in ["disks", "volume_groups"] {
            target[part] = row["init_target_server"][part].clone();
        }
        target["btrfs_list"] = single["btrfs_list"].clone();
        let read = contract::read(body.to_string().as_bytes(), &strict);
        assert!(read.is_ok(), "{read:?} of {body}");
        let (status, answer) = told(rig.post(&body).await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        created += 1;
    }
    assert!(created > 90, "{created}");
}

#[tokio::test]
async fn a_server_with_a_failed_check_takes_no_task() {
    let rig = account(60).await;
    let (_, rows) = page(&rig, "?state=unavailable").await;
    let failed = rows[0]["checks"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(failed["result"], "ERROR");
    assert!(failed["error_code"].as_str().unwrap().starts_with("SMS.65"), "{failed}");
    let (status, answer) =
        told(rig.post(&body(rows[0]["id"].as_str().unwrap())).await.unwrap()).await;
    assert_eq!((status, code(&answer)), (400, "SMS.6520"));
}

#[tokio::test]
async fn a_task_tells_what_its_request_said() {
    let rig = rig(Options::default()).await;
    let asked = json!({"migration_ip": "192.0.2.7", "region_name": "Region 1", "project_name": "Project 1",
        "vm_template_id": "template-1", "speed_limit": "200", "start_target_server": false});
    let mut body = with("s1", "use_ipv6", json!(false));
    for (field, value) in asked.as_object().unwrap() {
        body[field] = value.clone();
    }
    let (_, answer) = told(rig.post(&body).await.unwrap()).await;
    let (_, task) = rig.get(&format!("/v3/tasks/{}", answer["id"].as_str().unwrap())).await;
    for (field, value) in asked.as_object().unwrap() {
        let expected = if field == "speed_limit" { &json!(200) } else { value };
        assert_eq!(&task[field], expected, "{field}");
    }
}

#[tokio::test]
async fn a_stopped_task_is_restarted_and_an_unknown_operation_is_refused() {
    let rig = rig(Options::default()).await;
    let path = format!("/v3/tasks/{}", rig.create("s1").await);
    let act = async |operation: &str| {
        let post = rig.client.post(rig.url(&format!("{path}/action")));
        let post = post.header("X-Auth-Token", super::TOKEN);
        told(post.json(&json!({"operation": operation})).send().await.unwrap()).await
    };
    assert_eq!(act("stop").await.0, 200);
    assert_eq!(rig.get(&path).await.1["state"], "ABORT");
    assert_eq!(act("restart").await.0, 200);
    assert_eq!(rig.get(&path).await.1["state"], "READY");
    assert_eq!(act("cutover").await.0, 200);
    let (status, answer) = act("dance").await;
    assert_eq!((status, code(&answer)), (400, "SMS.9001"));
}

#[tokio::test]
async fn a_token_that_is_longer_than_the_page_allows_is_the_gateways_494() {
    let rig = rig(Options::default()).await;
    let get = rig.client.get(rig.url("/v3/tasks")).header("X-Auth-Token", "x".repeat(16_385));
    let (status, answer) = told(get.send().await.unwrap()).await;
    assert_eq!((status, code(&answer)), (494, "APIGW.0201"));
}

#[tokio::test]
async fn an_id_that_must_be_encoded_is_found() {
    let odd = SourceServer::connected("a/b c%");
    let rig = rig(Options { sources: Some(vec![odd]), ..Options::default() }).await;
    let (status, server) = rig.get("/v3/sources/a%2Fb%20c%25").await;
    assert_eq!((status, &server["id"]), (200, &json!("a/b c%")));
}

#[tokio::test]
async fn the_same_seed_is_the_same_account() {
    let ids = async |seed| {
        let rig = rig(Options { servers: 20, seed, ..Options::default() }).await;
        let rows = page(&rig, "").await.1;
        rows.iter().map(|row| row["id"].to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(3).await, ids(3).await);
    assert!(ids(3).await.is_disjoint(&ids(4).await));
}
