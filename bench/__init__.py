"""Speed, measured: `python -m bench` (see __main__ for the parts).

    peers ◄─ adapters        who is measured, and how each wraps an application
    app ◄─ client            the application in process, and the browser in front of it
    inprocess ◄─ cases       cost per request; scale: cost against live sessions
    truth ◄─ stage           yes or no: what becomes of a session
    truth ◄─ truth_users ◄─ stage_users, usual    and of a user's; usual: the way on which each probe must fail
    peers ◄─ accounts        how a peer keeps users, on each store
    instructions, calls ◄─ counted    exact counts per request: by callgrind, and within the package
    stores ◄─ crowd          requests a second on real stores, many at once; redis: round trips and bytes, counted
    crowd ◄─ store_peers, servers         the peers on each store (store_rows: the bare drivers), and the stores
    sockets ◄─ serve, tokens, wrk.lua
    checks, plots, results                targets, pictures, and where both are kept
    report, report_counts, report_stores, tables

Rules of residence of this package: nothing under fastersession/ imports it, it imports only the public names of
fastersession, and every peer it names is optional. `floor.py` is a verbatim copy of a given file and is never edited.
"""
