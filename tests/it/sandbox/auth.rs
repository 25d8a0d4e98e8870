//! Tokens, lock-outs and signatures.

use axum::http::Method;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::sandbox::{ACCESS_KEY, Account, AuthOptions, Options, USER};

use super::{Rig, body, code, rig, seconds, told};

use crate::support::rabbit::SOON;
use crate::support::wait;

async fn log_in(rig: &Rig, password: &str) -> (u16, Option<String>, Value) {
    let (domain, name, _) = USER;
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "domain": {"name": domain}, "name": name, "password": password,
        }}},
        "scope": {"project": {"name": "cn-north-4"}},
    }});
    let response = rig.client.post(rig.url("/v3/auth/tokens")).json(&body).send().await.unwrap();
    let token = response.headers().get("x-subject-token").map(|t| t.to_str().unwrap().to_owned());
    let (status, answer) = told(response).await;
    (status, token, answer)
}

async fn call_with(rig: &Rig, token: &str) -> (u16, Value) {
    let get = rig.client.get(rig.url("/v3/tasks")).header("X-Auth-Token", token);
    told(get.send().await.unwrap()).await
}

#[tokio::test]
async fn a_password_buys_a_token_that_expires() {
    let auth = AuthOptions { token_life: seconds(3600.0), ..AuthOptions::default() };
    let rig = rig(Options { auth, time_scale: 1800.0, ..Options::default() }).await;
    let (status, token, answer) = log_in(&rig, USER.2).await;
    let token = token.unwrap();
    assert_eq!((status, token.len()), (201, 2048));
    assert_eq!(answer["token"]["project"]["name"], "cn-north-4");
    let expires: jiff::Timestamp = answer["token"]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(call_with(&rig, &token).await.0, 200);

    // An hour at 1800 times the speed: the token itself says when it is over.
    let (status, answer) = wait::until(SOON, async || match call_with(&rig, &token).await {
        (200, _) => Err(format!("it is taken, until {expires}")),
        other => Ok(other),
    })
    .await;
    assert!(jiff::Timestamp::now() >= expires, "before its end");
    assert_eq!((status, code(&answer)), (401, "APIGW.0301"));
    assert!(answer["error_msg"].as_str().unwrap().contains("token expires, expires_at:"));
    assert_eq!(rig.sandbox.stats(&[]).logins.issued, 1);
}

#[tokio::test]
async fn missing_invented_and_revoked_tokens_are_told_apart() {
    let rig = rig(Options::default()).await;
    let (_, token, _) = log_in(&rig, USER.2).await;
    let token = token.unwrap();
    let bare = rig.client.get(rig.url("/v3/tasks")).send().await.unwrap();
    let (status, answer) = told(bare).await;
    assert_eq!((status, code(&answer)), (401, "APIGW.0301"));
    assert!(answer["error_msg"].as_str().unwrap().contains("x-auth-token not found"));
    let (status, answer) = call_with(&rig, "invented").await;
    assert_eq!((status, code(&answer)), (401, "APIGW.0301"));
    assert!(answer["error_msg"].as_str().unwrap().contains("decrypt token fail"));

    rig.sandbox.set_account(Account::TokenRevoked);
    let (status, answer) = call_with(&rig, &token).await;
    assert_eq!((status, code(&answer)), (401, "APIGW.0307"));
    let (_, fresh, _) = log_in(&rig, USER.2).await;
    assert_eq!(call_with(&rig, &fresh.unwrap()).await.0, 200);
    rig.sandbox.set_account(Account::Ok);
    assert_eq!(call_with(&rig, &token).await.0, 401, "a revoked token stays revoked");
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_user_for_a_while() {
    let auth = AuthOptions { lock_user: seconds(900.0), ..AuthOptions::default() };
    let rig = rig(Options { auth, time_scale: 300.0, ..Options::default() }).await;
    let mut began = std::time::Instant::now();
    for _ in 0..5 {
        // It is locked by the fifth.
        began = std::time::Instant::now();
        let (status, token, answer) = log_in(&rig, "wrong").await;
        assert_eq!((status, token), (401, None));
        assert_eq!(answer["error"]["code"], 401);
        assert_eq!(answer["error"]["message"], "The username or password is wrong.");
    }
    let (status, _, answer) = log_in(&rig, USER.2).await;
    assert_eq!((status, &answer["error"]["message"]), (401, &json!("The account is locked.")));
    // 15 minutes at 300 times the speed.
    wait::until(SOON, async || match log_in(&rig, USER.2).await.0 {
        201 => Ok(()),
        status => Err(format!("{status}")),
    })
    .await;
    assert!(began.elapsed() >= seconds(3.0), "{:?}", began.elapsed());
    let logins = rig.sandbox.stats(&[]).logins;
    assert_eq!((logins.wrong, logins.issued), (5, 1));
}

#[tokio::test]
async fn a_malformed_login_is_400_and_a_right_one_forgives_the_wrong_ones() {
    let rig = rig(Options::default()).await;
    let url = rig.url("/v3/auth/tokens");
    let (status, answer) =
        told(rig.client.post(url).json(&json!({"auth": {}})).send().await.unwrap()).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(400)));
    for _ in 0..2 {
        for _ in 0..4 {
            assert_eq!(log_in(&rig, "wrong").await.0, 401);
        }
        assert_eq!(log_in(&rig, USER.2).await.0, 201);
    }
}

/// Sends a signed request, and signs `claimed` in place of the body.
async fn signed(
    rig: &Rig,
    method: Method,
    query: &str,
    claimed: &str,
    secret: &str,
) -> (u16, Value) {
    let sent = if method == Method::POST { body("s1").to_string() } else { String::new() };
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let host = rig.sandbox.base_url.strip_prefix("http://").unwrap();
    let names = "content-type;host;x-sdk-date";
    let headers = format!("content-type:application/json\nhost:{host}\nx-sdk-date:{date}\n");
    let canonical = format!(
        "{method}\n/v3/tasks/\n{query}\n{headers}\n{names}\n{}",
        hex::encode(Sha256::digest(claimed))
    );
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(to_sign.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let authorization = format!(
        "SDK-HMAC-SHA256 Access={}, SignedHeaders={names}, Signature={signature}",
        ACCESS_KEY.0
    );
    let request = rig.client.request(method, rig.url(&format!("/v3/tasks?{query}")));
    let request = request.header("Content-Type", "application/json").header("X-Sdk-Date", date);
    told(request.header("Authorization", authorization).body(sent).send().await.unwrap()).await
}

#[tokio::test]
async fn a_signed_request_is_let_in_and_a_wrong_signature_is_not() {
    let rig = rig(Options::default()).await;
    let right = body("s1").to_string();
    assert_eq!(signed(&rig, Method::POST, "", &right, ACCESS_KEY.1).await.0, 200);
    let query = "limit=1&name=a%20b";
    assert_eq!(signed(&rig, Method::GET, query, "", ACCESS_KEY.1).await.0, 200);
    let (status, answer) = signed(&rig, Method::POST, "", "another body", ACCESS_KEY.1).await;
    assert_eq!((status, code(&answer)), (401, "APIGW.0301"));
    assert!(answer["error_msg"].as_str().unwrap().contains("verify aksk signature fail"));
    for _ in 0..4 {
        assert_eq!(signed(&rig, Method::POST, "", &right, "wrong secret").await.0, 401);
    }
    let (_, answer) = signed(&rig, Method::POST, "", &right, ACCESS_KEY.1).await;
    assert!(answer["error_msg"].as_str().unwrap().contains("AK access failed to reach the limit"));
}
