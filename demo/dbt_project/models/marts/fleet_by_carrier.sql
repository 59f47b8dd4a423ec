-- One side of the diamond flight_facts -> (fleet -> fleet_by_carrier | punctuality) -> scorecard.
select
    carrier,
    airline,
    count(*) as planes,
    count(distinct manufacturer) as manufacturers,
    round(avg(seats), 1) as avg_seats
from {{ ref('fleet') }}
group by carrier, airline
