/* build_info.c - constants from the build, and versions that libraries tell. */
#include "service/build_info.h"

#include <stddef.h>

#include <curl/curl.h>
#include <jansson.h>
#include <microhttpd.h>

#ifdef __clang__
#    define COMPILER "clang " __clang_version__
#else
#    define COMPILER "gcc " __VERSION__
#endif

const struct build_info build_info = {
    .version = VARVE_VERSION,
    .build_type = VARVE_BUILD_TYPE,
    .compiler = COMPILER,
    .sanitizers = VARVE_SANITIZERS,
};

void build_info_libraries(struct library_version libraries[static LIBRARY_COUNT + 1])
{
    size_t n = 0;

    libraries[n++] = (struct library_version){"libmicrohttpd", MHD_get_version()};
    libraries[n++] = (struct library_version){"jansson", jansson_version_str()};
    libraries[n++] = (struct library_version){"liburcu", VARVE_URCU_VERSION};
    libraries[n++] = (struct library_version){"isa-l", VARVE_ISAL_VERSION};
    libraries[n++] = (struct library_version){"xxhash", VARVE_XXHASH_VERSION};
    libraries[n++] =
        (struct library_version){"libcurl", curl_version_info(CURLVERSION_NOW)->version};
    libraries[n] = (struct library_version){NULL, NULL};
}
