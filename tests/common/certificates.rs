//! Authorities and certificates, made for a test, as files.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A gateway's certificate and key, PEM: for `localhost` and 127.0.0.1.
    pub fn server(&self) -> (String, String) {
        self.server_for(&["localhost", "127.0.0.1"])
    }

    pub fn server_for(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client's certificate and key, PEM.
    pub fn client(&self, uri: &str) -> (String, String) {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    pub fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with files of certificates.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        // As it is done by those who care: no half of a file is ever seen.
        let temporary = self.path(&format!("{name}.new"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, &path).unwrap();
        path
    }

    /// `NAME.pem` and `NAME.key`.
    pub fn write_pair(&self, name: &str, (cert, key): &(String, String)) -> (PathBuf, PathBuf) {
        (self.write(&format!("{name}.pem"), cert), self.write(&format!("{name}.key"), key))
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }
}
