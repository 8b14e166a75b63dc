//! Files that are not what they should be are named with what was expected; names and ends of certificates are read.

use std::net::IpAddr;

use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

use super::reload::Watch;
use super::*;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::OutcomeLabel;

/// A certificate that signs itself, and its key.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn files(folder: &Path) -> TlsFiles {
    let file = |name| folder.join(name);
    TlsFiles { cert: file("cert.pem"), key: file("key.pem"), client_ca: None, client_auth: ClientAuth::Off }
}

fn write(files: &TlsFiles, cert: &str, key: &str) {
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
}

#[test]
fn fault_33_a_file_that_gives_no_tls_is_named_with_its_key_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let good = files(folder.path());
    let (cert, key) = self_signed(|_| {});
    let (expired, expired_key) = self_signed(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let other = KeyPair::generate().unwrap().serialize_pem();
    let (cert, key) = (cert.pem(), key.serialize_pem());
    let cut = &cert[..cert.len() / 2];
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_key_type = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (cert.as_str(), other.as_str(), "tls.key", "key.pem does not belong to the certificate in"),
        ("", &key, "tls.cert", "cert.pem holds no certificate"),
        ("nonsense", &key, "tls.cert", "cert.pem holds no certificate"),
        (&key, &key, "tls.cert", "cert.pem holds no certificate"),
        (cut, &key, "tls.cert", "cert.pem is no well-formed PEM"),
        (no_x509, &key, "tls.cert", "cert.pem holds a certificate that is not well-formed X.509"),
        (&cert, "", "tls.key", "key.pem holds no private key"),
        (&cert, &cert, "tls.key", "key.pem holds no private key"),
        (&cert, encrypted, "tls.key", "key.pem holds an encrypted private key"),
        (&cert, no_key_type, "tls.key", "key.pem holds a private key of a kind that is not supported"),
        (&expired.pem(), &expired_key.serialize_pem(), "tls.cert", "cert.pem holds a certificate that has expired"),
    ];
    for (cert, key, name, wrong) in cases {
        write(&good, cert, key);
        let error = good.load(SystemTime::now()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(wrong) && error.contains("; expected "), "{error}");
        // Nothing of the key is shown, whatever is wrong with it.
        let secret = key.lines().nth(1).filter(|line| line.len() > 10).unwrap_or("-----BEGIN");
        assert!(!error.contains(secret), "{error}");
    }
    write(&good, &cert, &key);
    let with_ca = |client_ca: &str| {
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, client_ca).unwrap();
        let files = TlsFiles { client_ca: Some(path), client_auth: ClientAuth::Required, ..good.clone() };
        files.load(SystemTime::now())
    };
    with_ca(&cert).unwrap();
    for bad in ["", "nonsense", no_x509] {
        let error = with_ca(bad).unwrap_err().to_string();
        assert!(error.starts_with("tls.client_ca: ") && error.contains("ca.pem holds"), "{error}");
    }
    for missing in ["cert.pem", "key.pem"] {
        write(&good, &cert, &key);
        std::fs::remove_file(folder.path().join(missing)).unwrap();
        let error = good.load(SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot read {}", folder.path().join(missing).display())), "{error}");
    }
}

#[test]
fn a_certificates_names_and_end_are_read() {
    let (cert, _) = self_signed(|params| {
        params.not_after = date_time_ymd(2040, 1, 2);
        params.subject_alt_names = vec![
            SanType::URI("spiffe://cluster/ns/ml/sa/fraud".try_into().unwrap()),
            SanType::DnsName("Fraud.ml.svc".try_into().unwrap()),
            SanType::Rfc822Name("a@b.c".try_into().unwrap()),
            SanType::IpAddress(IpAddr::from([10, 0, 0, 7])),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
    });
    let certificate = peer::certificate(cert.der()).unwrap();
    let names: Vec<&str> = certificate.names.iter().map(|name| &**name).collect();
    let expected =
        ["uri:spiffe://cluster/ns/ml/sa/fraud", "dns:fraud.ml.svc", "email:a@b.c", "ip:10.0.0.7", "ip:2001:db8::1"];
    assert_eq!(names, expected);
    assert_eq!(certificate.expires_at, SystemTime::UNIX_EPOCH + Duration::from_secs(2_209_075_200));
    let (nameless, _) = self_signed(|params| params.subject_alt_names.clear());
    assert!(peer::certificate(nameless.der()).unwrap().names.is_empty());
    assert!(peer::certificate(&CertificateDer::from(vec![1, 2, 3])).is_err());
}

#[test]
fn a_wrong_new_certificate_leaves_the_old_one_in_force_and_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let pem = || {
        let (cert, key) = self_signed(|_| {});
        (cert.pem(), key.serialize_pem())
    };
    let ((cert, key), (new_cert, new_key)) = (pem(), pem());
    write(&files, &cert, &key);
    let now = SystemTime::now();
    let instruments = Arc::new(Instruments::new());
    let mut watch = Watch::new(files.clone(), files.load(now).unwrap(), Arc::clone(&instruments));
    let certificates = watch.certificates();
    let old = certificates.current();
    let reloads = |outcome| instruments.certificate_reloads.get_or_create(&OutcomeLabel { outcome }).get();
    assert!(instruments.certificate_expiry.get() > 0);

    // Half of a replacement is not yet wrong.
    write(&files, &new_cert, &key);
    watch = watch.look(now);
    assert_eq!((reloads("ok"), reloads("failed")), (0, 0));
    for _ in 0..3 {
        watch = watch.look(now);
        assert_eq!((reloads("ok"), reloads("failed")), (0, 1));
    }
    assert!(Arc::ptr_eq(&old, &certificates.current()));
    // The other half comes.
    write(&files, &new_cert, &new_key);
    watch = watch.look(now);
    assert_eq!((reloads("ok"), reloads("failed")), (1, 1));
    let new = certificates.current();
    assert!(!Arc::ptr_eq(&old, &new));
    // A file that is gone for a moment is no harm, and what has not changed is not taken again.
    std::fs::remove_file(&files.key).unwrap();
    watch = watch.look(now);
    write(&files, &new_cert, &new_key);
    watch = watch.look(now);
    watch.look(now);
    assert_eq!((reloads("ok"), reloads("failed")), (1, 1));
    assert!(Arc::ptr_eq(&new, &certificates.current()));
}

#[test]
fn nothing_that_can_be_printed_holds_the_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let (cert, key) = self_signed(|_| {});
    write(&files, &cert.pem(), &key.serialize_pem());
    let loaded = files.load(SystemTime::now()).unwrap();
    let shown = format!("{loaded:?}");
    assert!(shown.starts_with("Loaded { expires_at: ") && shown.len() < 200, "{shown}");
    let watch = format!("{:?}", Watch::new(files, loaded, Arc::new(Instruments::new())));
    assert!(watch.contains("Certificates { .. }"), "{watch}");
}
