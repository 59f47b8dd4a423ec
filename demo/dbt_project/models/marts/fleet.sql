-- Which planes fly for whom. A row leaves when its last flight is gone.
select distinct
    carrier,
    airline,
    tailnum,
    manufacturer,
    seats
from {{ ref('flight_facts') }}
where tailnum is not null
