#include "service/client.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include <curl/curl.h>

/* Keeps what fits of the first line; the rest is read and dropped. */
static size_t keep_first_line(char *data, size_t size, size_t n, void *arg)
{
    struct client_answer *answer = arg;
    size_t kept = strlen(answer->text);
    for (size_t i = 0; i < size * n && kept + 1 < sizeof answer->text; i++) {
        if (kept > 0 && answer->text[kept - 1] == '\n') {
            break;
        }
        bool control = iscntrl((unsigned char)data[i]) && data[i] != '\n';
        answer->text[kept++] = control ? '?' : data[i];
        answer->text[kept] = '\0';
    }
    return size * n;
}

enum err client_get(const char *url, uint64_t timeout_ms, struct client_answer *ret_answer,
                    struct err_detail *detail)
{
    struct client_answer answer = {0};
    char reason[CURL_ERROR_SIZE] = "";
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        err_detail_set(detail, "out of memory");
        return ERR_NO_MEMORY;
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_first_line);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK) {
        err_detail_set(detail, "%s", reason[0] != '\0' ? reason : curl_easy_strerror(code));
        return ERR_IO;
    }
    answer.text[strcspn(answer.text, "\n")] = '\0';
    answer.status = (unsigned)status;
    *ret_answer = answer;
    return ERR_OK;
}
