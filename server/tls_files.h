// TlsFiles: where the certificate of the doors lies.
//
// Contract: a plain value.
#pragma once

#include <filesystem>

namespace latentd {

struct TlsFiles {
  std::filesystem::path certificate;  // PEM, with its chain; empty: no TLS
  std::filesystem::path key;          // PEM, without a passphrase
  std::filesystem::path client_ca;    // PEM; given: clients must show a certificate of these

  bool enabled() const { return !certificate.empty(); }
};

}  // namespace latentd
