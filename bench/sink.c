/* Customers' servers in a process of their own: they answer as their path says, and a file tells what arrived when.
 *
 * "/slow-<ms>/…" is answered after so long; of "/hangs/…" one request in three is answered and two are left hanging;
 * anything else is answered at once. Receipts are appended to the file named by the only argument. It tells its port
 * on standard output, and ends when standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 64 * 1024, AT_ONCE = 256, CONNECTIONS = 16 * 1024, BACKLOG = 4096 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
static const double HANG_SECONDS = 30;

/* As sink.py reads it; `at` is in seconds of CLOCK_MONOTONIC when the request had arrived whole. */
struct receipt {
    char path[48];
    char event_id[40];
    double at;
    int64_t answered;
};

struct connection {
    double due; /* when to answer; 0: nothing is owed */
    size_t length;
    char received[ROOM + 1];
};

static struct connection *connections[CONNECTIONS]; /* by descriptor */
static struct receipt receipts[4 * AT_ONCE];
static size_t receipts_count;
static int receipts_file, epoll, listener, highest, owed;
static unsigned long requests;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void write_receipts(void)
{
    size_t bytes = receipts_count * sizeof *receipts;
    if (bytes && write(receipts_file, receipts, bytes) != (ssize_t)bytes)
        err(1, "receipts");
    receipts_count = 0;
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        err(1, "epoll");
}

static void welcome(void)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS)
            errx(1, "more than %d connections", CONNECTIONS);
        if (!(connections[fd] = malloc(sizeof **connections)))
            err(1, "a connection");
        connections[fd]->due = 0;
        connections[fd]->length = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        highest = fd > highest ? fd : highest;
        watch(fd);
    }
}

static void leave(int fd)
{
    owed -= connections[fd]->due > 0;
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void answer(int fd)
{
    /* Whoever went away meanwhile is seen when it is read from. */
    (void)send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
}

static void answer_due(double time)
{
    for (int fd = 0; owed && fd <= highest; fd++)
        if (connections[fd] && connections[fd]->due > 0 && connections[fd]->due <= time) {
            connections[fd]->due = 0;
            owed--;
            answer(fd);
        }
}

/* A header's value in a head that ends with a null, or where one begins with nothing. */
static const char *header(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    if (!found)
        return "";
    found += strlen(name);
    return found + strspn(found, " ");
}

static void keep(char *room, size_t size, const char *text, const char *until)
{
    size_t length = strcspn(text, until);
    if (length >= size)
        errx(1, "more than %zu characters: %.*s", size, (int)length, text);
    memcpy(room, text, length);
    memset(room + length, 0, size - length);
}

static void take(int fd, const char *head)
{
    struct receipt *receipt = &receipts[receipts_count++];
    int milliseconds;
    double wait = 0;

    requests++;
    receipt->at = now();
    keep(receipt->path, sizeof receipt->path, head + strcspn(head, " ") + 1, " ");
    keep(receipt->event_id, sizeof receipt->event_id, header(head, "\r\nwebhook-id:"), "\r");
    receipt->answered = strncmp(receipt->path, "/hangs/", 7) || requests % 3 == 0;
    if (!receipt->answered)
        wait = HANG_SECONDS;
    else if (sscanf(receipt->path, "/slow-%d/", &milliseconds) == 1)
        wait = milliseconds / 1000.0;
    if (wait > 0) {
        connections[fd]->due = receipt->at + wait;
        owed++;
    } else
        answer(fd);
    if (receipts_count == sizeof receipts / sizeof *receipts)
        write_receipts();
}

static void receive(int fd)
{
    struct connection *from = connections[fd];
    ssize_t count = recv(fd, from->received + from->length, ROOM - from->length, 0);
    if (count <= 0) {
        leave(fd);
        return;
    }
    from->length += (size_t)count;
    char *end = memmem(from->received, from->length, "\r\n\r\n", 4);
    if (!end)
        return;
    *end = 0;
    size_t whole = (size_t)(end + 4 - from->received) + strtoul(header(from->received, "\r\ncontent-length:"), NULL, 10);
    if (from->length < whole) {
        if (whole > ROOM)
            errx(1, "a request of %zu bytes", whole);
        *end = '\r';
        return;
    }
    /* One request at a time: nobody sends the next one before this one is answered. */
    from->length = 0;
    take(fd, from->received);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct epoll_event events[AT_ONCE];

    if (count != 2)
        errx(2, "usage: sink RECEIPTS");
    receipts_file = open(arguments[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    epoll = epoll_create1(0);
    if (receipts_file < 0 || listener < 0 || epoll < 0)
        err(1, "start");
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, BACKLOG))
        err(1, "listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    watch(listener);
    watch(STDIN_FILENO);
    for (;;) {
        int ready = epoll_wait(epoll, events, AT_ONCE, owed ? 1 : -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == listener)
                welcome();
            else
                receive(fd);
        }
        if (owed)
            answer_due(now());
        write_receipts();
    }
}
