-- Third link of the chain; HAVING lets destinations appear when they become busy.
{{ config(schedule='1s') }}

select
    dest,
    dest_name,
    count(*) as origins,
    sum(flights) as flights
from {{ ref('routes') }}
group by dest, dest_name
having sum(flights) >= 1000
