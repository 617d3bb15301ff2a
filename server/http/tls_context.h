// TlsContext: what new connections of the HTTP door are encrypted with, read again when its files
// change. TLS 1.2 and 1.3; the ciphers are OpenSSL's defaults.
//
// Connections keep the certificate that they began with. Files that have become wrong, or that do
// not fit together (half of a renewal), change nothing.
//
// Contract: current from any thread; reload from one, main's. Outlives no connection's context:
// they share it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/result.h"
#include "server/file_stamp.h"
#include "server/tls_files.h"

namespace boost::asio::ssl {
class context;
}  // namespace boost::asio::ssl

namespace latentd {

class TlsContext final {
 public:
  using Shared = std::shared_ptr<boost::asio::ssl::context>;

  // kInvalidArgument: a file cannot be read, is no PEM, or key and certificate do not match.
  static Result<std::unique_ptr<TlsContext>> load(TlsFiles files);

  Shared current() const;

  // True when there is a new certificate. Fails as load.
  Result<bool> reload();

  // When the certificate ends; seconds since 1970.
  std::int64_t expiry_unix() const;

 private:
  using Stamps = std::array<FileStamp, 3>;

  explicit TlsContext(TlsFiles files) : files_(std::move(files)) {}
  Stamps stamps() const;
  Status read();

  const TlsFiles files_;
  Stamps stamps_{};
  mutable std::mutex mutex_;
  Shared current_;                // guarded by mutex_
  std::int64_t expiry_unix_ = 0;  // guarded by mutex_
};

}  // namespace latentd
