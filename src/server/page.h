// The page at /: a chat in the browser, one file that loads nothing from anywhere else.
#pragma once

#include "server/http.h"

namespace liquidgemm::server {

// Public, because a browser cannot send a key before there is a page to type it in. The page itself
// knows nothing; what it asks the server for goes through the other routes and needs the key.
Route page_route();

}  // namespace liquidgemm::server
